package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// ruleRecord is a rule as it lies in KV, at [protocol.RuleKey]. Each of its versions lies in the same form at versionKey.
type ruleRecord struct {
	Org      protocol.OrgID `json:"org"`
	Name     string         `json:"name"`
	Version  int            `json:"version"`
	Document string         `json:"document,omitempty"`
	Created  time.Time      `json:"created_at"`
	Updated  time.Time      `json:"updated_at"`
	Deleted  bool           `json:"deleted,omitempty"` // the record stays, so that versions go on and what was asked for is finished
}

// maxGone is how many deleted rules of an org keep their record. A rule that is made again after that begins with version 1.
const maxGone = 200

// casAttempts is how often a change is tried again because others changed rules of the org meanwhile.
const casAttempts = 50

// headKey is the key that each change of rules of an org writes, too: changes of one org come one after the other, and together keep its limits.
func headKey(org protocol.OrgID) string { return protocol.Token(string(org)) + ".rules" }

func versionKey(org protocol.OrgID, name string, version int) string {
	return protocol.RuleKey(org, name) + "." + strconv.Itoa(version)
}

// storedRule is a record with the revision of its key.
type storedRule struct {
	ruleRecord

	revision uint64
}

// Apply stores rules, all or none. A rule whose text is the same as the stored one keeps its version.
func (s *Service) Apply(ctx context.Context, org protocol.OrgID, list []*rules.Rule) ([]Applied, error) {
	var applied []Applied
	err := s.change(ctx, org, func(head uint64, stored map[string]storedRule) ([]broker.Change, error) {
		var changes []broker.Change
		var err error
		applied, changes, err = plan(org, list, stored, time.Now().UTC())
		return withHead(org, head, changes), err
	})
	if err != nil {
		return nil, fmt.Errorf("apply rules: %w", err)
	}
	for _, a := range applied {
		if a.Change == changeUpdated && a.Version > KeptVersions {
			s.forgetVersion(ctx, org, a.Name, a.Version-KeptVersions)
		}
	}
	return applied, nil
}

// What became of a rule that was applied.
const (
	changeCreated   = "created"
	changeUpdated   = "updated"
	changeUnchanged = "unchanged"
)

// plan is what applying rules to those that are stored comes to.
func plan(org protocol.OrgID, list []*rules.Rule, stored map[string]storedRule, now time.Time) ([]Applied, []broker.Change, error) {
	applied, live := make([]Applied, 0, len(list)), 0
	for _, r := range stored {
		if !r.Deleted {
			live++
		}
	}
	var changes []broker.Change
	seen := map[string]bool{}
	for _, r := range list {
		if seen[r.Name] {
			return nil, nil, fmt.Errorf("two of the rules have the name %s", r.Name)
		}
		seen[r.Name] = true
		old, known := stored[r.Name]
		if known && !old.Deleted && old.Document == string(r.Text) {
			applied = append(applied, Applied{Name: r.Name, Version: old.Version, Change: changeUnchanged})
			continue
		}
		record := ruleRecord{Org: org, Name: r.Name, Version: old.Version + 1, Document: string(r.Text), Created: old.Created, Updated: now}
		change := changeUpdated
		if !known || old.Deleted {
			record.Created, change = now, changeCreated
			live++
		}
		value, err := json.Marshal(record)
		if err != nil {
			return nil, nil, fmt.Errorf("encode rule %s: %w", r.Name, err)
		}
		changes = append(changes,
			broker.Change{Key: protocol.RuleKey(org, r.Name), Value: value, Revision: old.revision},
			broker.Change{Key: versionKey(org, r.Name, record.Version), Value: value},
		)
		applied = append(applied, Applied{Name: r.Name, Version: record.Version, Change: change})
	}
	if live > MostRules && len(changes) > 0 {
		return nil, nil, fmt.Errorf("%w: at most %d rules", ErrTooMany, MostRules)
	}
	return applied, changes, nil
}

func withHead(org protocol.OrgID, head uint64, changes []broker.Change) []broker.Change {
	if len(changes) == 0 {
		return nil
	}
	return append(changes, broker.Change{Key: headKey(org), Value: []byte("{}"), Revision: head})
}

// Delete removes a rule, or returns [ErrNoRule]. What it asked for goes on.
func (s *Service) Delete(ctx context.Context, org protocol.OrgID, name string) error {
	var oldest *storedRule
	err := s.change(ctx, org, func(head uint64, stored map[string]storedRule) ([]broker.Change, error) {
		old, known := stored[name]
		if !known || old.Deleted {
			return nil, ErrNoRule
		}
		old.Deleted, old.Document, old.Updated = true, "", time.Now().UTC()
		value, err := json.Marshal(old.ruleRecord)
		if err != nil {
			return nil, fmt.Errorf("encode rule %s: %w", name, err)
		}
		oldest = oldestGone(stored, s.mostGone)
		return withHead(org, head, []broker.Change{{Key: protocol.RuleKey(org, name), Value: value, Revision: old.revision}}), nil
	})
	if err != nil {
		return fmt.Errorf("delete rule %s: %w", name, err)
	}
	if oldest != nil {
		s.forgetRule(ctx, oldest)
	}
	return nil
}

// oldestGone is the record that makes room for that of one more deleted rule; nil: there is room.
func oldestGone(stored map[string]storedRule, most int) *storedRule {
	gone := slices.Collect(func(yield func(storedRule) bool) {
		for _, r := range stored {
			if r.Deleted && !yield(r) {
				return
			}
		}
	})
	if len(gone) < most {
		return nil
	}
	oldest := slices.MinFunc(gone, func(a, b storedRule) int { return a.Updated.Compare(b.Updated) })
	return &oldest
}

// forgetRule removes all that is left of a deleted rule. What it misses is removed by nobody, and harms nobody.
func (s *Service) forgetRule(ctx context.Context, r *storedRule) {
	if err := s.bucket.DropAt(ctx, protocol.RuleKey(r.Org, r.Name), r.revision); err != nil {
		return
	}
	for _, key := range []string{protocol.RuleKey(r.Org, r.Name) + ".*", protocol.TriggerKey(r.Org, r.Name), protocol.SweepKey(r.Org, r.Name)} {
		_ = s.bucket.DropAll(ctx, key)
	}
}

// forgetVersion removes one that is not kept any more. If that fails it stays, and is not shown.
func (s *Service) forgetVersion(ctx context.Context, org protocol.OrgID, name string, version int) {
	_ = s.bucket.Drop(ctx, versionKey(org, name, version))
}

// change commits what decide makes of the rules of an org as they are, again if others changed them meanwhile. This process knows of it when
// change returns.
func (s *Service) change(
	ctx context.Context, org protocol.OrgID, decide func(head uint64, stored map[string]storedRule) ([]broker.Change, error),
) error {
	var err error
	for range casAttempts {
		var head broker.Entry
		head, err = s.bucket.Get(ctx, headKey(org)) // before the others: who changes one of them later has changed this one
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			return err
		}
		var stored map[string]storedRule
		if stored, err = s.stored(ctx, org); err != nil {
			return err
		}
		var changes []broker.Change
		if changes, err = decide(head.Revision, stored); err != nil || len(changes) == 0 {
			return err
		}
		var revisions []uint64
		if revisions, err = s.bucket.Commit(ctx, changes); err == nil {
			for i, c := range changes {
				if c.Key != headKey(org) && strings.Count(c.Key, ".") == 2 {
					s.learn(ctx, broker.Watched{Entry: broker.Entry{Key: c.Key, Value: c.Value, Revision: revisions[i]}})
				}
			}
			return nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return err
		}
	}
	return err
}

// stored reads the records of an org's rules, by name, also those of deleted ones.
func (s *Service) stored(ctx context.Context, org protocol.OrgID) (map[string]storedRule, error) {
	entries, err := s.bucket.List(ctx, protocol.Token(string(org))+".rule.*")
	if err != nil {
		return nil, err
	}
	stored := make(map[string]storedRule, len(entries))
	for _, e := range entries {
		r := storedRule{revision: e.Revision}
		if err := json.Unmarshal(e.Value, &r.ruleRecord); err != nil {
			return nil, fmt.Errorf("decode the stored rule %s: %w", e.Key, err)
		}
		stored[r.Name] = r
	}
	return stored, nil
}
