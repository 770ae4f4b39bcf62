package producer

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// Key is an API key as the registry shows it: without the key.
type Key struct {
	ID      string         `json:"id"`
	Org     protocol.OrgID `json:"org"`
	Role    Role           `json:"role"`
	Name    string         `json:"name,omitempty"`
	Created time.Time      `json:"created"`

	sum [32]byte // of the key; stands in the record's name
}

// Sandbox is a registered sandbox of an org.
type Sandbox struct {
	ID      protocol.SandboxID `json:"id"`
	Org     protocol.OrgID     `json:"org"`
	Pool    string             `json:"pool"` // the workers that can reach it
	Created time.Time          `json:"created"`
}

// Grant lets an org use a bucket, or a part of it.
type Grant struct {
	Org    protocol.OrgID `json:"org"`
	Bucket string         `json:"bucket"`
	// Prefix is "", for the whole bucket, or whole segments of keys, ending in "/".
	Prefix  string    `json:"prefix"`
	Created time.Time `json:"created"`
}

// record names a grant. The names are exact: two grants never share one.
func (g Grant) record() string {
	return "grant." + protocol.Token(string(g.Org)) + "." + token64(g.Bucket) + "." + token64(g.Prefix)
}

func token64(s string) string {
	if s == "" {
		return "=" // as protocol.Token does; base64url never makes it
	}
	return base64.RawURLEncoding.EncodeToString([]byte(s))
}

// tables hold what the watch delivered, by record name.
type tables struct {
	keys      map[string]Key
	sandboxes map[string]Sandbox
	grants    map[string]Grant
	byOrg     map[protocol.OrgID]map[string]Grant // the grants once more
}

func newTables() *tables {
	return &tables{
		keys:      map[string]Key{},
		sandboxes: map[string]Sandbox{},
		grants:    map[string]Grant{},
		byOrg:     map[protocol.OrgID]map[string]Grant{},
	}
}

// apply takes one record in. A record that cannot be understood leaves nothing in its place, so that a
// damaged one gives nobody access. Records of other kinds are not ours.
func (t *tables) apply(rec Record) error {
	kind, _, _ := strings.Cut(rec.Key, ".")
	switch kind {
	case "key":
		delete(t.keys, rec.Key)
		return t.applyKey(rec)
	case "sandbox":
		delete(t.sandboxes, rec.Key)
		return t.applySandbox(rec)
	case "grant":
		if old, ok := t.grants[rec.Key]; ok {
			delete(t.byOrg[old.Org], rec.Key)
			delete(t.grants, rec.Key)
		}
		return t.applyGrant(rec)
	}
	return nil
}

var errMisplaced = errors.New("the record's content does not belong under its name")

func (t *tables) applyKey(rec Record) error {
	if rec.Deleted {
		return nil
	}
	var k Key
	if err := json.Unmarshal(rec.Value, &k); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(rec.Key, "key."))
	copy(k.sum[:], sum)
	if err != nil || rec.Key != keyRecord(k.sum) || !k.Role.Valid() || !protocol.ValidID(string(k.Org)) {
		return errMisplaced
	}
	t.keys[rec.Key] = k
	return nil
}

func (t *tables) applySandbox(rec Record) error {
	if rec.Deleted {
		return nil
	}
	var s Sandbox
	if err := json.Unmarshal(rec.Value, &s); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if rec.Key != sandboxRecord(s.Org, s.ID) {
		return errMisplaced
	}
	t.sandboxes[rec.Key] = s
	return nil
}

func (t *tables) applyGrant(rec Record) error {
	if rec.Deleted {
		return nil
	}
	var g Grant
	if err := json.Unmarshal(rec.Value, &g); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if rec.Key != g.record() {
		return errMisplaced
	}
	t.grants[rec.Key] = g
	if t.byOrg[g.Org] == nil {
		t.byOrg[g.Org] = map[string]Grant{}
	}
	t.byOrg[g.Org][rec.Key] = g
	return nil
}
