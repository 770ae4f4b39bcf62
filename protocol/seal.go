package protocol

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// SealKeySize is the size of a sealing key in bytes: AES-256.
const SealKeySize = 32

// ErrSeal is returned for what cannot be opened: another key, or bytes that were changed.
var ErrSeal = errors.New("sealed data cannot be opened with this key")

// Sealer encrypts the locations of an item (AES-256-GCM, random nonce) before they enter the queue. The
// item's name is authenticated with them, so that a sealed location works for no other item.
type Sealer struct {
	aead cipher.AEAD
	id   string
}

// NewSealer returns a sealer for a key of [SealKeySize] bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != SealKeySize {
		return nil, fmt.Errorf("sealing key: %d bytes, must be %d", len(key), SealKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	sum := sha256.Sum256(append([]byte("copyfleet seal key id\x00"), key...))
	return &Sealer{aead: aead, id: hex.EncodeToString(sum[:8])}, nil
}

// NewSealKey returns a fresh random key.
func NewSealKey() []byte {
	key := make([]byte, SealKeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand aborts the process instead
	return key
}

// ID tells keys apart without telling the key.
func (s *Sealer) ID() string { return s.id }

type sealedLocations struct {
	Src  Location `json:"src"`
	Dest Location `json:"dest"`
}

// SealLocations encrypts both ends of an item.
func (s *Sealer) SealLocations(ref Ref, src, dest Location) ([]byte, error) {
	plain, err := json.Marshal(sealedLocations{src, dest})
	if err != nil {
		return nil, fmt.Errorf("seal item %d of %s: %w", ref.Index, ref.Batch, err)
	}
	return s.aead.Seal(nil, nil, plain, additional(ref)), nil
}

// OpenLocations decrypts both ends of an item. The error is [ErrSeal] and nothing of the content.
func (s *Sealer) OpenLocations(ref Ref, sealed []byte) (src, dest Location, err error) {
	plain, err := s.aead.Open(nil, nil, sealed, additional(ref))
	if err != nil {
		return src, dest, fmt.Errorf("item %d of %s: %w", ref.Index, ref.Batch, ErrSeal)
	}
	var both sealedLocations
	if json.Unmarshal(plain, &both) != nil {
		return src, dest, fmt.Errorf("item %d of %s: %w", ref.Index, ref.Batch, ErrSeal)
	}
	return both.Src, both.Dest, nil
}

func additional(ref Ref) []byte {
	b := append([]byte(ref.Org), 0)
	b = append(b, ref.Batch...)
	b = append(b, 0)
	return binary.BigEndian.AppendUint64(b, uint64(ref.Index)) //nolint:gosec // an index is never negative
}
