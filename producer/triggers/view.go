package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// shown is what views tell of a rule besides its text, at [protocol.TriggerKey]: as much of the journal as was saved.
type shown struct {
	Counts   Counts    `json:"counts"`
	Problems []Trouble `json:"problems,omitempty"` // the newest first
	Batch    string    `json:"batch,omitempty"`
}

// show saves what views tell of a rule.
func (s *Service) show(ctx context.Context, org protocol.OrgID, rule string, v shown) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the counts of rule %s: %w", rule, err)
	}
	_, err = s.bucket.Put(ctx, protocol.TriggerKey(org, rule), value)
	return err
}

// Rules returns the rules of an org by name.
func (s *Service) Rules(ctx context.Context, org protocol.OrgID) ([]View, error) {
	stored, err := s.stored(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	views := make([]View, 0, len(stored))
	counts, err := s.values(ctx, protocol.TriggerKey(org, "x"))
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	sweeps, err := s.values(ctx, protocol.SweepKey(org, "x"))
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	for _, r := range stored {
		if r.Deleted {
			continue
		}
		v := r.view()
		v.fill(counts[protocol.TriggerKey(org, r.Name)], sweeps[protocol.SweepKey(org, r.Name)])
		s.warn(org, &v)
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b View) int { return strings.Compare(a.Name, b.Name) })
	return views, nil
}

// values reads all keys that differ from one in their last part only.
func (s *Service) values(ctx context.Context, like string) (map[string][]byte, error) {
	entries, err := s.bucket.List(ctx, like[:strings.LastIndexByte(like, '.')+1]+"*")
	if err != nil {
		return nil, err
	}
	values := make(map[string][]byte, len(entries))
	for _, e := range entries {
		values[e.Key] = e.Value
	}
	return values, nil
}

// Rule returns one rule, or [ErrNoRule]. version 0 is the newest one; the last [KeptVersions] are there.
func (s *Service) Rule(ctx context.Context, org protocol.OrgID, name string, version int) (View, error) {
	if !rules.ValidName(name) { // nor asked for: the queue hangs up on a client whose subjects are too long
		return View{}, ErrNoRule
	}
	newest, err := s.record(ctx, protocol.RuleKey(org, name))
	if err != nil {
		return View{}, fmt.Errorf("read rule %s: %w", name, err)
	}
	if newest.Deleted {
		return View{}, ErrNoRule
	}
	r := newest
	if version != 0 && version != newest.Version {
		if version < 0 || version > newest.Version || version <= newest.Version-KeptVersions {
			return View{}, ErrNoRule
		}
		if r, err = s.record(ctx, versionKey(org, name, version)); err != nil {
			return View{}, fmt.Errorf("read version %d of rule %s: %w", version, name, err)
		}
	}
	v := r.view()
	var counts, sweep broker.Entry
	if counts, err = s.optional(ctx, protocol.TriggerKey(org, name)); err != nil {
		return View{}, fmt.Errorf("read rule %s: %w", name, err)
	}
	if sweep, err = s.optional(ctx, protocol.SweepKey(org, name)); err != nil {
		return View{}, fmt.Errorf("read rule %s: %w", name, err)
	}
	v.fill(counts.Value, sweep.Value)
	s.warn(org, &v)
	if v.Versions, err = s.versions(ctx, &newest); err != nil {
		return View{}, fmt.Errorf("list the versions of rule %s: %w", name, err)
	}
	return v, nil
}

// warn says of a rule that this process cannot read it, which holds up its org.
func (s *Service) warn(org protocol.OrgID, v *View) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if o := s.orgs[protocol.Token(string(org))]; o != nil && o.broken[protocol.Token(v.Name)] {
		v.Problems = slices.Insert(v.Problems, 0, Trouble{
			At: v.Updated, Event: "rule " + v.Name, Code: codeRuleUnreadable,
			Message: "This version of the program cannot read the rule. The events of all rules wait for one that can, or for another text of this rule.",
		})
	}
}

func (s *Service) record(ctx context.Context, key string) (ruleRecord, error) {
	var r ruleRecord
	e, err := s.bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return r, ErrNoRule
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return r, fmt.Errorf("decode %s: %w", key, err)
	}
	return r, nil
}

// optional reads a key that need not be there.
func (s *Service) optional(ctx context.Context, key string) (broker.Entry, error) {
	e, err := s.bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return broker.Entry{}, nil
	}
	return e, err
}

// versions are those of a rule that can be read, the newest first.
func (s *Service) versions(ctx context.Context, newest *ruleRecord) ([]int, error) {
	prefix := protocol.RuleKey(newest.Org, newest.Name) + "."
	keys, err := s.bucket.Keys(ctx, prefix+"*")
	if err != nil {
		return nil, err
	}
	var list []int
	for _, key := range keys {
		if n, err := strconv.Atoi(key[len(prefix):]); err == nil && n <= newest.Version && n > newest.Version-KeptVersions {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list, nil
}

func (r *ruleRecord) view() View {
	return View{Name: r.Name, Version: r.Version, Document: r.Document, Created: r.Created, Updated: r.Updated, Problems: []Trouble{}}
}

// fill adds what was saved besides the text. What cannot be read is left out: it is only shown.
func (v *View) fill(counts, sweep []byte) {
	var told shown
	if json.Unmarshal(counts, &told) == nil {
		v.Counts, v.Batch = told.Counts, told.Batch
		v.Problems = append(v.Problems, told.Problems...)
	}
	var swept Swept
	if json.Unmarshal(sweep, &swept) == nil {
		v.Sweep = &swept
	}
}
