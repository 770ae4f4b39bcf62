package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// reopenAfter is how long a watch that broke is left.
const reopenAfter = 250 * time.Millisecond

// Keys that a process follows: all rules and secrets, and who leads.
const (
	ruleKeys   = "*.rule.*"
	secretKeys = "*.secret.*"
	headKeys   = "*.rules" // [headKey] of each org
)

// activeRule is a rule that holds now.
type activeRule struct {
	rule    *rules.Rule
	version int
	created time.Time // when the rule was made; after a deletion anew
}

// orgRules are the rules of an org that has a record of one, also if that is of one that was deleted.
type orgRules struct {
	org    protocol.OrgID
	rules  map[string]activeRule // by the token of the name, as the others
	gone   map[string]bool       // deleted ones
	broken map[string]bool       // those that this version cannot read
	sorted []activeRule          // of rules; replaced, never changed
}

func (o *orgRules) empty() bool { return len(o.rules)+len(o.gone)+len(o.broken) == 0 }

// rulesOf are the rules of an org by name. What it returns does not change.
func (s *Service) rulesOf(org protocol.OrgID) ([]activeRule, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.loaded {
		return nil, ErrNotReady
	}
	if o := s.orgs[protocol.Token(string(org))]; o != nil {
		return o.sorted, nil
	}
	return nil, nil
}

// rulesNow are the rules of an org as they are in KV: an event that was stored after a rule is decided on for that rule, too. It returns [ErrNotReady] while
// this process has not heard of all of them.
func (s *Service) rulesNow(ctx context.Context, org protocol.OrgID) ([]activeRule, error) {
	head, err := s.bucket.Get(ctx, headKey(org))
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	s.mu.RLock()
	behind := s.known[headKey(org)] < head.Revision
	s.mu.RUnlock()
	if behind {
		return nil, ErrNotReady
	}
	return s.rulesOf(org)
}

// lookup is one rule.
func (s *Service) lookup(org protocol.OrgID, name string) (activeRule, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.loaded {
		return activeRule{}, ErrNotReady
	}
	if o := s.orgs[protocol.Token(string(org))]; o != nil {
		if a, ok := o.rules[protocol.Token(name)]; ok {
			return a, nil
		}
	}
	return activeRule{}, ErrNoRule
}

// ruleOrgs are the orgs that have a record of a rule.
func (s *Service) ruleOrgs() []protocol.OrgID {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]protocol.OrgID, 0, len(s.orgs))
	for _, o := range s.orgs {
		list = append(list, o.org)
	}
	return list
}

// runnable are the orgs whose events can be decided: not those with a rule that this version cannot read. Their events wait for one that can.
func (s *Service) runnable() map[protocol.OrgID]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	set := map[protocol.OrgID]bool{}
	if !s.loaded {
		return set
	}
	for _, o := range s.orgs {
		set[o.org] = len(o.broken) == 0
	}
	return set
}

// Ready returns [ErrNotReady] unless the rules and secrets in memory are those of now.
func (s *Service) Ready(context.Context) error {
	if !s.following.Load() {
		return ErrNotReady
	}
	return nil
}

// Loaded waits until the rules and secrets are in memory for the first time, or returns [ErrNotReady] when ctx ends.
func (s *Service) Loaded(ctx context.Context) error {
	select {
	case <-s.told:
		return nil
	case <-ctx.Done():
		return ErrNotReady
	}
}

// follow keeps the rules and secrets in memory as they are in KV, until ctx ends.
func (s *Service) follow(ctx context.Context) {
	for {
		if err := s.watch(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "cannot follow the rules; trying again", slog.Any("error", err))
		}
		if !pause(ctx, reopenAfter) {
			return
		}
	}
}

// watch applies what a watch tells until it ends.
func (s *Service) watch(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events, err := s.bucket.Watch(ctx, ruleKeys, secretKeys, headKeys, leaseKey)
	if err != nil {
		return err
	}
	defer s.following.Store(false)
	present := map[string]bool{}
	for w := range events {
		switch {
		case w.Current:
			s.forgetOthers(present)
			s.following.Store(true)
			present = nil
		case w.Entry.Key == leaseKey:
			if w.Deleted {
				signal(s.freed)
			}
		default:
			if present != nil && !w.Deleted {
				present[w.Entry.Key] = true
			}
			s.learn(ctx, w)
		}
	}
	return nil
}

// forgetOthers drops what was removed while nobody watched.
func (s *Service) forgetOthers(present map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.known {
		if !present[key] {
			s.drop(key)
			delete(s.known, key)
		}
	}
	if !s.loaded {
		s.loaded = true
		close(s.told)
	}
	signal(s.changed)
}

// learn takes in one entry, unless a later one of its key is known.
func (s *Service) learn(ctx context.Context, w broker.Watched) {
	key := w.Entry.Key
	var rule *activeRule
	var record ruleRecord
	if !w.Deleted && strings.Contains(key, ".rule.") {
		if err := json.Unmarshal(w.Entry.Value, &record); err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "a stored rule cannot be read", slog.String("key", key), slog.Any("error", err))
			return
		}
		rule = s.compile(ctx, &record)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.Entry.Revision <= s.known[key] {
		return
	}
	s.known[key] = w.Entry.Revision
	s.drop(key)
	switch {
	case w.Deleted:
	case strings.Contains(key, ".rule."):
		s.keep(&record, rule)
	case strings.Contains(key, ".secret."):
		s.secrets[key] = heldSecret(w.Entry.Value)
	}
	signal(s.changed)
}

// compile makes a rule of its record; nil: there is none, because it was deleted or cannot be read.
func (s *Service) compile(ctx context.Context, record *ruleRecord) *activeRule {
	if record.Deleted {
		return nil
	}
	parsed, problems := s.parse([]byte(record.Document))
	if len(parsed) != 1 || parsed[0].Name != record.Name {
		message := "it is not one document with that name"
		if len(problems) > 0 {
			message = problems[0].Message
		}
		s.log.LogAttrs(ctx, slog.LevelError, "a stored rule is not valid for this version; the events of its org wait",
			slog.String("org", string(record.Org)), slog.String("rule", record.Name), slog.String("error", message))
		return nil
	}
	return &activeRule{rule: parsed[0], version: record.Version, created: record.Created}
}

// keep enters a rule. The lock is held.
func (s *Service) keep(record *ruleRecord, rule *activeRule) {
	token, name := protocol.Token(string(record.Org)), protocol.Token(record.Name)
	o := s.orgs[token]
	if o == nil {
		o = &orgRules{org: record.Org, rules: map[string]activeRule{}, gone: map[string]bool{}, broken: map[string]bool{}}
		s.orgs[token] = o
	}
	switch {
	case rule != nil:
		o.rules[name] = *rule
		o.sort()
	case record.Deleted:
		o.gone[name] = true
	default:
		o.broken[name] = true
	}
}

// drop forgets what a key holds. The lock is held.
func (s *Service) drop(key string) {
	delete(s.secrets, key)
	token, name, _ := strings.Cut(key, ".rule.")
	o := s.orgs[token]
	if o == nil {
		return
	}
	delete(o.rules, name)
	delete(o.gone, name)
	delete(o.broken, name)
	o.sort()
	if o.empty() {
		delete(s.orgs, token)
	}
}

func (o *orgRules) sort() {
	o.sorted = make([]activeRule, 0, len(o.rules))
	for _, a := range o.rules {
		o.sorted = append(o.sorted, a)
	}
	slices.SortFunc(o.sorted, func(a, b activeRule) int { return strings.Compare(a.rule.Name, b.rule.Name) })
}
