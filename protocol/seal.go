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

// SealItem encrypts what a caller asked for.
func (s *Sealer) SealItem(ref Ref, item *ManifestItem) ([]byte, error) {
	plain, err := json.Marshal(item)
	if err != nil {
		return nil, fmt.Errorf("seal item %d of %s: %w", ref.Index, ref.Batch, err)
	}
	return s.aead.Seal(nil, nil, plain, additional(ref)), nil
}

// OpenItem decrypts what a caller asked for. The error is [ErrSeal] and nothing of the content.
func (s *Sealer) OpenItem(ref Ref, sealed []byte) (ManifestItem, error) {
	var item ManifestItem
	plain, err := s.aead.Open(nil, nil, sealed, additional(ref))
	if err != nil || json.Unmarshal(plain, &item) != nil {
		return ManifestItem{}, fmt.Errorf("item %d of %s: %w", ref.Index, ref.Batch, ErrSeal)
	}
	return item, nil
}

// SealText encrypts a secret of a batch, such as the key that signs its webhook.
func (s *Sealer) SealText(org OrgID, batch BatchID, text string) []byte {
	return s.aead.Seal(nil, nil, []byte(text), textName(org, batch))
}

// OpenText decrypts a secret of a batch. The error is [ErrSeal].
func (s *Sealer) OpenText(org OrgID, batch BatchID, sealed []byte) (string, error) {
	plain, err := s.aead.Open(nil, nil, sealed, textName(org, batch))
	if err != nil {
		return "", fmt.Errorf("a secret of %s: %w", batch, ErrSeal)
	}
	return string(plain), nil
}

func textName(org OrgID, batch BatchID) []byte {
	return append([]byte("text\x00"), additional(Ref{Org: org, Batch: batch})...)
}

// SealToken encrypts what a token carries that a caller keeps, such as that of an upload URL. A token made for one purpose serves no other.
func (s *Sealer) SealToken(purpose string, plain []byte) []byte {
	return s.aead.Seal(nil, nil, plain, tokenName(purpose))
}

// OpenToken decrypts what a token carries. The error is [ErrSeal].
func (s *Sealer) OpenToken(purpose string, sealed []byte) ([]byte, error) {
	plain, err := s.aead.Open(nil, nil, sealed, tokenName(purpose))
	if err != nil {
		return nil, fmt.Errorf("a token for %s: %w", purpose, ErrSeal)
	}
	return plain, nil
}

func tokenName(purpose string) []byte { return []byte("token\x00" + purpose) }

func additional(ref Ref) []byte {
	b := append([]byte(ref.Org), 0)
	b = append(b, ref.Batch...)
	b = append(b, 0)
	return binary.BigEndian.AppendUint64(b, uint64(ref.Index)) //nolint:gosec // an index is never negative
}
