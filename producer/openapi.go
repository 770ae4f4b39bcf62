package producer

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net/http"
	"strconv"
)

// apiDescription is OpenAPI 3.1. It is written by hand, and a test holds it and the handlers together.
//
//go:embed openapi.json
var apiDescription []byte

// describe fills the version into the description.
func describe(version string) []byte {
	quoted, err := json.Marshal(version)
	if err != nil {
		quoted = []byte(`"dev"`)
	}
	return bytes.Replace(apiDescription, []byte(`"VERSION"`), quoted, 1)
}

// describeAPI answers GET /openapi.json.
func (s *Server) describeAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(s.document)))
	_, _ = w.Write(s.document) // the client is gone: there is nobody left to tell
}
