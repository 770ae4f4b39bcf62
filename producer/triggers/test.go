package triggers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// Limits of a trial: each event is shown with each rule, and the product of the two, of what a body holds, has no end worth waiting for.
const (
	MostTested  = 8 << 20 // bytes of the copies and events that are shown
	maxTestTime = 30 * time.Second
	testedSize  = 200 // bytes of a result beside its texts, in memory and as it is shown
)

// ErrTestTooLarge says that a trial would show more than [MostTested] bytes, or took too long.
var ErrTestTooLarge = errors.New("the trial is too large")

// Test shows what the rules of an org, or those given instead, would make of events. Nothing is copied or remembered. Secrets are shown as their
// placeholders; a copy with one that is not there is refused, as it would be. The error is [ErrTestTooLarge] beyond the limits.
func (s *Service) Test(ctx context.Context, org protocol.OrgID, given []*rules.Rule, list []events.Event) ([]Tested, error) {
	own := given == nil
	if own || slices.ContainsFunc(given, func(r *rules.Rule) bool { return len(r.Secrets()) > 0 }) {
		active, err := s.rulesOf(org) // the secrets are loaded with them
		if err != nil {
			return nil, err
		}
		if own {
			for _, a := range active {
				given = append(given, a.rule)
			}
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxTestTime, ErrTestTooLarge)
	defer cancel()
	var results []Tested
	size := 0
	for i := range list {
		e := &list[i]
		for _, rule := range given {
			result, err := s.testOne(ctx, org, rule, own, e)
			if cause := context.Cause(ctx); cause != nil {
				return nil, fmt.Errorf("try rules: %w", cause)
			}
			if err != nil {
				return nil, err
			}
			if size += testedSize + len(result.Event) + len(result.Message) + len(result.Copy); size > MostTested {
				return nil, fmt.Errorf("try rules: %w", ErrTestTooLarge)
			}
			results = append(results, result)
		}
	}
	return results, nil
}

// testOne tries a rule, own if it is one of the org: then the secrets' values count, too. A rule that a caller brings along would find out with them
// what they are like.
func (s *Service) testOne(ctx context.Context, org protocol.OrgID, rule *rules.Rule, own bool, e *events.Event) (Tested, error) {
	t := Tested{Event: short(describe(e)), Rule: rule.Name}
	refuse := func(code, message string) (Tested, error) {
		t.Matches, t.Code, t.Message = true, code, short(message)
		return t, nil
	}
	matches, err := rule.Matches(ctx, e)
	switch {
	case err != nil: // also that of a caller who has gone, whom nobody answers
		return refuse(codeExpression, err.Error())
	case !matches:
		return t, nil
	}
	trail := trailOf(e.Metadata)
	if v, code, message := trailVerdict(trail, string(org)+"/"+rule.Name); v != undecided {
		return refuse(code, message)
	}
	secret := s.secretOf(org)
	var item []byte
	if own {
		_, err = rule.Render(e, secret)
	}
	if err == nil {
		item, err = rule.Render(e, func(name string) (string, error) {
			if _, err := secret(name); err != nil {
				return "", err
			}
			return "{{secret." + name + "}}", nil
		})
	}
	if failed, ok := errors.AsType[*rules.RenderError](err); ok {
		return refuse(failed.Code, failed.Error())
	}
	if err != nil {
		return t, fmt.Errorf("render a copy of rule %s: %w", rule.Name, err)
	}
	if _, err := s.queue.Check(ctx, org, item); err != nil {
		if refused, ok := errors.AsType[*Refusal](err); ok {
			return refuse(refused.Code, refused.Message)
		}
		return t, fmt.Errorf("check a copy of rule %s: %w", rule.Name, err)
	}
	t.Matches, t.Copy = true, item
	return t, nil
}
