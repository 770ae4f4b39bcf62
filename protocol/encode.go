package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Encode returns the wire form of a message. Unlike json.Marshal it leaves <, > and & as they are: six bytes for one would let
// a caller make a page several times as large as what it holds.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
