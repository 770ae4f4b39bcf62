package protocol

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
)

// OrgID names a tenant. Form: see [ValidID].
type OrgID string

// SandboxID names a sandbox within an org. Form: see [ValidID].
type SandboxID string

// BatchID names a batch: "bat_" and 26 characters of lowercase base32. It is safe in subjects and keys.
type BatchID string

const (
	batchPrefix  = "bat_"
	uploadPrefix = "upl_"
	maxID        = 128
)

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewBatchID returns a fresh random id (128 bits).
func NewBatchID() BatchID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the process instead
	return BatchID(batchPrefix + idEncoding.EncodeToString(b[:]))
}

// KeyedBatchID returns the one id that an idempotency key of an org stands for, so that finding the batch
// of a repeated request needs no index.
func KeyedBatchID(org OrgID, key string) BatchID {
	sum := sha256.Sum256([]byte(string(org) + "\x00" + key))
	return BatchID(batchPrefix + idEncoding.EncodeToString(sum[:16]))
}

// Valid reports whether the id has the form that this package makes.
func (id BatchID) Valid() bool { return validKeyed(string(id), batchPrefix) }

func validKeyed(id, prefix string) bool {
	rest, ok := strings.CutPrefix(id, prefix)
	if !ok || len(rest) != 26 {
		return false
	}
	_, err := idEncoding.DecodeString(rest)
	return err == nil
}

// KeyedUploadID returns the one id that an idempotency key stands for in a sandbox.
func KeyedUploadID(org OrgID, sandbox SandboxID, key string) UploadID {
	sum := sha256.Sum256([]byte(string(org) + "\x00" + string(sandbox) + "\x00" + key))
	return UploadID(uploadPrefix + idEncoding.EncodeToString(sum[:16]))
}

// Valid reports whether the id has the form that this package makes.
func (id UploadID) Valid() bool { return validKeyed(string(id), uploadPrefix) }

// ValidID reports whether s may name an org or a sandbox: [A-Za-z0-9][A-Za-z0-9._-]{0,127}.
func ValidID(s string) bool {
	if s == "" || len(s) > maxID || !alphanumeric(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Token encodes an id as one token of a NATS subject or KV key. Letters, digits, '-' and '_' stand for
// themselves; every other byte becomes '=' and two hex digits, so that two ids never share a token.
func Token(id string) string {
	plain := true
	for i := range len(id) {
		if !tokenByte(id[i]) {
			plain = false
			break
		}
	}
	if plain && id != "" {
		return id
	}
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; tokenByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteString(hex.EncodeToString([]byte{c}))
		}
	}
	if id == "" {
		return "="
	}
	return b.String()
}

// FromToken is the inverse of [Token]. ok is false if no id has the token.
func FromToken(token string) (id string, ok bool) {
	if token == "=" {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] != '=' {
			b.WriteByte(token[i])
			continue
		}
		if i+2 >= len(token) {
			return "", false
		}
		raw, err := hex.DecodeString(token[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.WriteByte(raw[0])
		i += 2
	}
	return b.String(), Token(b.String()) == token
}

func tokenByte(c byte) bool { return alphanumeric(c) || c == '-' || c == '_' }
