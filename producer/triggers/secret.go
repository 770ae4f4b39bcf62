package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// heldSecret is a secret's record as it lies in KV: it is opened when it is used.
type heldSecret []byte

// secretRecord is a secret as it lies in KV, at [protocol.SecretKey].
type secretRecord struct {
	Name    string    `json:"name"`
	Sealed  []byte    `json:"sealed"`
	Updated time.Time `json:"updated_at"`
}

// ErrSecretSize says that a value is none that can be stored.
var ErrSecretSize = fmt.Errorf("a secret has 1 to %d bytes", MaxSecret)

// sealedFor binds the value of a secret to its org and name: moved to another key it does not open.
func sealedFor(org protocol.OrgID, name string) string {
	return "secret\x00" + protocol.SecretKey(org, name)
}

// SetSecret stores a secret, sealed. The error is [ErrSecretSize] if it is empty or larger than [MaxSecret], and [ErrTooMany] beyond [MostSecrets].
func (s *Service) SetSecret(ctx context.Context, org protocol.OrgID, name, value string) (SecretView, error) {
	if value == "" || len(value) > MaxSecret {
		return SecretView{}, fmt.Errorf("store secret %s: %w", name, ErrSecretSize)
	}
	key := protocol.SecretKey(org, name)
	there, err := s.bucket.List(ctx, protocol.Token(string(org))+".secret.*")
	if err != nil {
		return SecretView{}, fmt.Errorf("store secret %s: %w", name, err)
	}
	if len(there) >= MostSecrets && !slices.ContainsFunc(there, func(e broker.Entry) bool { return e.Key == key }) {
		return SecretView{}, fmt.Errorf("store secret %s: %w: at most %d secrets", name, ErrTooMany, MostSecrets)
	}
	r := secretRecord{Name: name, Sealed: s.sealer.SealToken(sealedFor(org, name), []byte(value)), Updated: time.Now().UTC()}
	record, err := json.Marshal(r)
	if err != nil {
		return SecretView{}, fmt.Errorf("store secret %s: %w", name, err)
	}
	revision, err := s.bucket.Put(ctx, key, record)
	if err != nil {
		return SecretView{}, fmt.Errorf("store secret %s: %w", name, err)
	}
	s.learn(ctx, broker.Watched{Entry: broker.Entry{Key: key, Value: record, Revision: revision}})
	users, err := s.secretUsers(ctx, org)
	if err != nil {
		return SecretView{}, fmt.Errorf("store secret %s: it is stored: %w", name, err)
	}
	return SecretView{Name: name, Updated: r.Updated, UsedBy: usedBy(users, name)}, nil
}

// DeleteSecret removes a secret, or returns [ErrNoSecret].
func (s *Service) DeleteSecret(ctx context.Context, org protocol.OrgID, name string) error {
	if !rules.ValidSecret(name) { // nor asked for: see Rule
		return ErrNoSecret
	}
	key := protocol.SecretKey(org, name)
	for range casAttempts {
		e, err := s.bucket.Get(ctx, key)
		if errors.Is(err, broker.ErrNotFound) {
			return ErrNoSecret
		}
		if err != nil {
			return fmt.Errorf("delete secret %s: %w", name, err)
		}
		marker, err := s.bucket.DeleteFading(ctx, key, e.Revision)
		if errors.Is(err, broker.ErrConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("delete secret %s: %w", name, err)
		}
		s.learn(ctx, broker.Watched{Entry: broker.Entry{Key: key, Revision: marker}, Deleted: true})
		return nil
	}
	return fmt.Errorf("delete secret %s: %w", name, broker.ErrConflict)
}

// Secrets lists the secrets of an org by name.
func (s *Service) Secrets(ctx context.Context, org protocol.OrgID) ([]SecretView, error) {
	entries, err := s.bucket.List(ctx, protocol.Token(string(org))+".secret.*")
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	users, err := s.secretUsers(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	views := make([]SecretView, 0, len(entries))
	for _, e := range entries {
		var r secretRecord
		if err := json.Unmarshal(e.Value, &r); err != nil {
			return nil, fmt.Errorf("decode %s: %w", e.Key, err)
		}
		views = append(views, SecretView{Name: r.Name, Updated: r.Updated, UsedBy: usedBy(users, r.Name)})
	}
	slices.SortFunc(views, func(a, b SecretView) int { return strings.Compare(a.Name, b.Name) })
	return views, nil
}

// secretUsers are the names of rules by the secrets that they use, as the rules are stored now.
func (s *Service) secretUsers(ctx context.Context, org protocol.OrgID) (map[string][]string, error) {
	stored, err := s.stored(ctx, org)
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, r := range stored {
		if rule := s.compile(ctx, &r.ruleRecord); rule != nil {
			for _, secret := range rule.rule.Secrets() {
				users[secret] = append(users[secret], r.Name)
			}
		}
	}
	return users, nil
}

func usedBy(users map[string][]string, secret string) []string {
	list := append([]string{}, users[secret]...)
	slices.Sort(list)
	return list
}

// secretOf returns how the secrets of an org are read now. One that is not there is [ErrNoSecret].
func (s *Service) secretOf(org protocol.OrgID) func(name string) (string, error) {
	return func(name string) (string, error) {
		s.mu.RLock()
		held := s.secrets[protocol.SecretKey(org, name)]
		s.mu.RUnlock()
		if held == nil {
			return "", ErrNoSecret
		}
		var r secretRecord
		if err := json.Unmarshal(held, &r); err != nil {
			return "", fmt.Errorf("decode secret %s: %w", name, err)
		}
		value, err := s.sealer.OpenToken(sealedFor(org, name), r.Sealed)
		if err != nil {
			return "", fmt.Errorf("secret %s: %w", name, err)
		}
		return string(value), nil
	}
}
