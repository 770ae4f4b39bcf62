package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// ruleOf is a rule on the bucket "inbox" with a condition, and a destination.
func ruleOf(name, condition, dest string) string {
	return fmt.Sprintf(`name: %s
match: {source: s3, bucket: inbox%s}
copy:
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: %s
`, name, condition, dest)
}

func parsedRules(t *testing.T, texts ...string) []*rules.Rule {
	t.Helper()
	list, problems := rules.Parse([]byte(strings.Join(texts, "---\n")))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return list
}

func notified(t *testing.T, key, trail string) events.Event {
	t.Helper()
	body, err := json.Marshal(created(key, 1, trail))
	if err != nil {
		t.Fatal(err)
	}
	list, err := events.ParseS3(body)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0]
}

// tested says of each result what it comes to: the code, "no" or "copy".
func tested(results []Tested) string {
	var b strings.Builder
	for _, r := range results {
		switch what := r.Code; {
		case what != "":
			fmt.Fprintf(&b, "%s %s, ", r.Rule, what)
		case r.Matches:
			fmt.Fprintf(&b, "%s copy, ", r.Rule)
		default:
			fmt.Fprintf(&b, "%s no, ", r.Rule)
		}
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// TestTrial of rules says what they would make of events as the org's loop decides, and does nothing of it.
func TestTrial(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	d := newDesk()
	k.queue, k.parse = d, rules.Parse
	const put = `{type: httpPutLocation, url: "https://dst.test/{{key}}", headers: {Authorization: "Bearer {{secret.token}}", X-Key: "{{key}}"}}`
	given := parsedRules(t,
		ruleOf("plain", "", `{type: objectLocation, bucket: outbox, key: "to/{{key}}"}`),
		ruleOf("other", ", prefix: other/", `{type: objectLocation, bucket: outbox, key: "to/{{key}}"}`),
		ruleOf("odd", ", when: data.nope == 1", `{type: objectLocation, bucket: outbox, key: "to/{{key}}"}`),
		ruleOf("lacks", "", `{type: objectLocation, bucket: outbox, key: "{{version}}"}`),
		ruleOf("climbs", "", `{type: objectLocation, bucket: outbox, key: "a/{{key}}"}`),
		ruleOf("refused", "", `{type: objectLocation, bucket: forbidden, key: "{{key}}"}`),
		ruleOf("signed", "", put),
		ruleOf("unset", "", strings.Replace(put, "token", "none", 1)),
	)
	if _, err := k.Test(t.Context(), acme, nil, nil); !errors.Is(err, ErrNotReady) {
		t.Errorf("before the rules are loaded: %v", err)
	}
	if _, err := k.Test(t.Context(), acme, given[6:], nil); !errors.Is(err, ErrNotReady) {
		t.Errorf("before the secrets are loaded: %v", err)
	}
	k.start(t)
	until(t, "the rules to be loaded", func() bool { _, err := k.rulesOf(acme); return err == nil })
	if _, err := k.SetSecret(t.Context(), acme, "token", "hush"); err != nil {
		t.Fatal(err)
	}
	hops := strings.TrimSuffix(strings.Repeat("x/y,", MaxHops), ",")
	for _, tt := range []struct{ key, trail, want string }{
		{"a b", "", "plain copy, other no, odd expression_failed, lacks missing_value, climbs copy, refused forbidden, signed copy, unset unknown_secret"},
		{"../b", "", "plain escapes, other no, odd expression_failed, lacks missing_value, climbs escapes, refused escapes, signed escapes, unset escapes"},
		{"other/b", string(acme) + "/signed", "plain copy, other copy, odd expression_failed, lacks missing_value, climbs copy, refused forbidden, signed loop, unset unknown_secret"},
		{"b", hops, "plain too_many_hops, other no, odd expression_failed, lacks too_many_hops, climbs too_many_hops, refused too_many_hops, signed too_many_hops, unset too_many_hops"},
	} {
		results, err := k.Test(t.Context(), acme, given, []events.Event{notified(t, tt.key, tt.trail)})
		if got := tested(results); err != nil || got != tt.want {
			t.Errorf("%q: %s, %v\nwant %s", tt.key, got, err, tt.want)
		}
		for _, r := range results {
			if r.Event != "inbox/"+tt.key || (r.Code == "") != (r.Message == "") || (r.Copy != nil) != (r.Matches && r.Code == "") || strings.Contains(string(r.Copy), "hush") {
				t.Errorf("%+v with the copy %s", r, r.Copy)
			}
		}
	}
	// A key that looks like a placeholder is a key: nothing is put in its place.
	results, err := k.Test(t.Context(), acme, given[6:7], []events.Event{notified(t, "{{secret.token}}", "")})
	if err != nil || len(results) != 1 || !strings.Contains(string(results[0].Copy), `"Authorization":"Bearer {{secret.token}}","X-Key":"{{secret.token}}"`) ||
		!strings.Contains(string(results[0].Copy), "https://dst.test/%7B%7Bsecret.token%7D%7D") {
		t.Errorf("%v, %+v, %v", tested(results), results, err)
	}

	// Those of the org, if none are given; another org has none.
	if _, err := k.Apply(t.Context(), acme, given[:2]); err != nil {
		t.Fatal(err)
	}
	for org, want := range map[protocol.OrgID]string{acme: "other no, plain copy", "else": ""} {
		results, err := k.Test(t.Context(), org, nil, []events.Event{notified(t, "a", "")})
		if got := tested(results); err != nil || got != want {
			t.Errorf("the rules of %s: %s, %v, want %s", org, got, err, want)
		}
	}

	// What a secret does to a rule of the org is told; it is not to be found out with another rule.
	if _, err := k.SetSecret(t.Context(), acme, "token", "two\nlines"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Apply(t.Context(), acme, given[6:7]); err != nil {
		t.Fatal(err)
	}
	for want, list := range map[string][]*rules.Rule{"other no, plain copy, signed escapes": nil, "signed copy": given[6:7]} {
		results, err := k.Test(t.Context(), acme, list, []events.Event{notified(t, "a", "")})
		if got := tested(results); err != nil || got != want {
			t.Errorf("with a secret that no header can hold: %s, %v, want %s", got, err, want)
		}
	}
	if len(d.items()) != 0 {
		t.Errorf("a trial made the copies %+v", d.items())
	}
	if v, err := k.Rule(t.Context(), acme, "plain", 0); err != nil || v.Counts != (Counts{}) {
		t.Errorf("a trial is counted: %+v, %v", v.Counts, err)
	}
	if _, err := k.bucket.Get(t.Context(), protocol.TriggerKey(acme, "plain")); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("a trial is remembered: %v", err)
	}
}

// brokenQueue does not tell, and does not come back before its caller has gone, if it is slow.
type brokenQueue struct {
	Queue

	slow bool
}

var errNobodyKnows = errors.New("nobody knows")

func (q brokenQueue) Check(ctx context.Context, _ protocol.OrgID, _ []byte) (Checked, error) {
	if q.slow {
		<-ctx.Done()
		return Checked{}, ctx.Err() //nolint:wrapcheck // as queues do
	}
	return Checked{}, errNobodyKnows
}

// TestTrialEnds with an error where nobody can tell, and when what it would show or take has no end.
func TestTrialEnds(t *testing.T) {
	t.Parallel()
	given := parsedRules(t, ruleOf("plain", "", `{type: httpPostFormLocation, url: "https://dst.test/", fileField: f, form: {a: "`+
		strings.Repeat("{{key}}", 60)+`"}}`))
	one := []events.Event{notified(t, strings.Repeat("k", 1000), "")}
	if results, err := (&Service{queue: brokenQueue{}}).Test(t.Context(), acme, given, one); !errors.Is(err, errNobodyKnows) || results != nil {
		t.Errorf("%+v, %v", results, err)
	}
	all := &Service{queue: newDesk()}
	if results, err := all.Test(t.Context(), acme, given, one); err != nil || len(results) != 1 || len(results[0].Copy) < 60_000 {
		t.Errorf("%+v, %v", results, err)
	}
	for range 8 {
		one = append(one, one...)
	}
	if results, err := all.Test(t.Context(), acme, given, one); !errors.Is(err, ErrTestTooLarge) || results != nil {
		t.Errorf("%d results of 60 KB each, %v", len(results), err)
	}
	synctest.Test(t, func(t *testing.T) {
		if results, err := (&Service{queue: brokenQueue{slow: true}}).Test(t.Context(), acme, given, one); !errors.Is(err, ErrTestTooLarge) || results != nil {
			t.Errorf("a trial without end: %+v, %v", results, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := all.Test(ctx, acme, given, one); !errors.Is(err, context.Canceled) {
			t.Errorf("whose caller has gone: %v", err)
		}
	})
}
