package triggers

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

func applied(t *testing.T, s *Service, texts ...string) string {
	t.Helper()
	list, err := s.Apply(t.Context(), acme, named(t, texts...))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, a := range list {
		fmt.Fprintf(&b, "%s %d %s, ", a.Name, a.Version, a.Change)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

func TestRuleVersions(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	for _, step := range []struct {
		texts []string
		want  string
	}{
		{[]string{"name: a 1", "name: b 1"}, "a 1 created, b 1 created"},
		{[]string{"name: a 1", "name: b 2"}, "a 1 unchanged, b 2 updated"},
		{[]string{"name: b 1"}, "b 3 updated"},
		{[]string{"name: b 1"}, "b 3 unchanged"},
	} {
		if got := applied(t, k.Service, step.texts...); got != step.want {
			t.Errorf("%q: %s, want %s", step.texts, got, step.want)
		}
	}
	v, err := k.Rule(t.Context(), acme, "b", 0)
	if err != nil || v.Version != 3 || v.Document != "name: b 1" || !slices.Equal(v.Versions, []int{3, 2, 1}) || v.Problems == nil {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err = k.Rule(t.Context(), acme, "b", 2); err != nil || v.Document != "name: b 2" || v.Version != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	for _, bad := range []struct {
		org     protocol.OrgID
		name    string
		version int
	}{{acme, "c", 0}, {acme, "b", 4}, {acme, "b", -1}, {"ACME", "b", 0}, {acme + "x", "b", 1}} {
		if _, err := k.Rule(t.Context(), bad.org, bad.name, bad.version); !errors.Is(err, ErrNoRule) {
			t.Errorf("%+v: %v, want ErrNoRule", bad, err)
		}
	}
	// After a deletion the versions go on.
	if err := k.Delete(t.Context(), acme, "b"); err != nil {
		t.Fatal(err)
	}
	if err := k.Delete(t.Context(), acme, "b"); !errors.Is(err, ErrNoRule) {
		t.Errorf("deleting it twice: %v", err)
	}
	if _, err := k.Rule(t.Context(), acme, "b", 0); !errors.Is(err, ErrNoRule) {
		t.Errorf("a deleted rule: %v", err)
	}
	if list, err := k.Rules(t.Context(), acme); err != nil || len(list) != 1 || list[0].Name != "a" {
		t.Errorf("%+v, %v", list, err)
	}
	if got := applied(t, k.Service, "name: b 1"); got != "b 4 created" {
		t.Errorf("made again: %s", got)
	}
	// The last ones can be read.
	for i := range 30 {
		applied(t, k.Service, fmt.Sprint("name: b again ", i))
	}
	if v, err = k.Rule(t.Context(), acme, "b", 0); err != nil || len(v.Versions) != KeptVersions || v.Versions[0] != 34 || v.Versions[19] != 15 {
		t.Errorf("%v, %v", v.Versions, err)
	}
	if v, err = k.Rule(t.Context(), acme, "b", 15); err != nil || v.Document != "name: b again 10" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err = k.Rule(t.Context(), acme, "b", 14); !errors.Is(err, ErrNoRule) {
		t.Errorf("a version that is not kept: %v", err)
	}
	if n, err := k.bucket.Count(t.Context(), protocol.RuleKey(acme, "b")+".*"); err != nil || n != KeptVersions {
		t.Errorf("%d versions lie in KV, %v", n, err)
	}
}

func TestApplyIsAllOrNone(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	var texts []string
	for i := range MostRules - 1 {
		texts = append(texts, fmt.Sprintf("name: r%03d", i))
	}
	applied(t, k.Service, texts...)
	if _, err := k.Apply(t.Context(), acme, named(t, "name: r000 changed", "name: x", "name: y")); !errors.Is(err, ErrTooMany) {
		t.Errorf("beyond the limit: %v", err)
	}
	if _, err := k.Apply(t.Context(), acme, named(t, "name: r000 changed", "name: z", "name: z")); err == nil {
		t.Error("two of one name were taken")
	}
	if v, err := k.Rule(t.Context(), acme, "r000", 0); err != nil || v.Version != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if got := applied(t, k.Service, "name: r000 changed", "name: x"); got != "r000 2 updated, x 1 created" {
		t.Error(got)
	}
	if _, err := k.Apply(t.Context(), acme, named(t, "name: y")); !errors.Is(err, ErrTooMany) {
		t.Errorf("beyond the limit: %v", err)
	}
	if list, err := k.Rules(t.Context(), acme); err != nil || len(list) != MostRules {
		t.Errorf("%d rules, %v", len(list), err)
	}
	if err := k.Delete(t.Context(), acme, "r001"); err != nil {
		t.Fatal(err)
	}
	applied(t, k.Service, "name: y")
}

// TestRulesAreChangedByManyAtOnce applies from two processes: each change is a version of its own, and the limit holds.
func TestRulesAreChangedByManyAtOnce(t *testing.T) {
	t.Parallel()
	server, key := startServer(t), protocol.NewSealKey()
	kits := []*kit{newKit(t, server, key), newKit(t, server, key)}
	var texts []string
	for i := range MostRules - 4 {
		texts = append(texts, fmt.Sprintf("name: r%03d", i))
	}
	applied(t, kits[0].Service, texts...)
	var all sync.WaitGroup
	var mu sync.Mutex
	versions, refused := map[int]bool{}, 0
	for i := range 8 {
		all.Go(func() {
			got, err := kits[i%2].Apply(t.Context(), acme, named(t, fmt.Sprintf("name: r000 by %d", i), fmt.Sprintf("name: new%d", i)))
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, ErrTooMany) {
				refused++
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			versions[got[0].Version] = true
		})
	}
	all.Wait()
	if want := map[int]bool{2: true, 3: true, 4: true, 5: true}; !reflect.DeepEqual(versions, want) || refused != 4 {
		t.Errorf("versions %v and %d refused, want %v and 4", versions, refused, want)
	}
}

func TestDeletedRulesAreForgottenInTheEnd(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	const most = 10 // each deletion is synced several times
	k.mostGone = most
	for i := range most + 2 {
		name := fmt.Sprintf("r%03d", i)
		applied(t, k.Service, "name: "+name)
		if err := k.show(t.Context(), acme, name, shown{Batch: "x"}); err != nil {
			t.Fatal(err)
		}
		if err := k.Delete(t.Context(), acme, name); err != nil {
			t.Fatal(err)
		}
	}
	for filter, want := range map[string]int{".rule.*": most, ".rule.*.*": most, ".counts.*": most} {
		if n, err := k.bucket.Count(t.Context(), protocol.Token(string(acme))+filter); err != nil || n != want {
			t.Errorf("%d keys %s are left, want %d (%v)", n, filter, want, err)
		}
	}
}

// TestAllProcessesKnowTheRules applies at one process: the other's loops see it, also what was changed while its watch was broken.
func TestAllProcessesKnowTheRules(t *testing.T) {
	t.Parallel()
	server, key := startServer(t), protocol.NewSealKey()
	one, two := newKit(t, server, key), newKit(t, server, key)
	if _, err := two.rulesOf(acme); !errors.Is(err, ErrNotReady) {
		t.Errorf("before it follows the rules: %v", err)
	}
	if err := two.Ready(t.Context()); !errors.Is(err, ErrNotReady) {
		t.Errorf("before it follows the rules: %v", err)
	}
	two.start(t)
	until(t, "it follows the rules", func() bool { return two.Ready(t.Context()) == nil })
	names := func() string {
		list, err := two.rulesOf(acme)
		if err != nil {
			return err.Error()
		}
		var b strings.Builder
		for _, a := range list {
			fmt.Fprintf(&b, "%s%d ", a.rule.Name, a.version)
		}
		return b.String()
	}
	for step := range 3 {
		applied(t, one.Service, fmt.Sprint("name: b ", step), fmt.Sprint("name: a ", step))
		want := fmt.Sprintf("a%d b%d ", 2*step+1, 2*step+1)
		until(t, want, func() bool { return names() == want })
		if _, err := two.lookup(acme, "a"); err != nil {
			t.Error(err)
		}
		applied(t, one.Service, fmt.Sprint("name: b again ", step), fmt.Sprint("name: a again ", step))
		if err := one.Delete(t.Context(), acme, "a"); err != nil {
			t.Fatal(err)
		}
		until(t, "one is deleted", func() bool { return names() == fmt.Sprintf("b%d ", 2*step+2) })
		if _, err := two.lookup(acme, "a"); !errors.Is(err, ErrNoRule) {
			t.Error(err)
		}
		if err := two.conn.ForceReconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// What this process did itself it knows at once.
	applied(t, two.Service, "name: c")
	if _, err := two.lookup(acme, "c"); err != nil {
		t.Error(err)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	const value = "correct horse battery staple"
	server, key := startServer(t), protocol.NewSealKey()
	k, other := newKit(t, server, key), newKit(t, server, key)
	other.start(t)
	if v, err := k.SetSecret(t.Context(), acme, "TOKEN", value); err != nil || v.Name != "TOKEN" || v.Updated.IsZero() || v.UsedBy == nil {
		t.Fatalf("%+v, %v", v, err)
	}
	if got, err := k.secretOf(acme)("TOKEN"); err != nil || got != value {
		t.Errorf("%q, %v", got, err)
	}
	until(t, "the other process knows it", func() bool { got, err := other.secretOf(acme)("TOKEN"); return err == nil && got == value })
	for org, name := range map[protocol.OrgID]string{acme: "TOKE", "ACME": "TOKEN"} {
		if _, err := k.secretOf(org)(name); !errors.Is(err, ErrNoSecret) {
			t.Errorf("%s %s: %v", org, name, err)
		}
	}
	// It lies sealed, and for its place only.
	e, err := k.bucket.Get(t.Context(), protocol.SecretKey(acme, "TOKEN"))
	if err != nil || bytes.Contains(e.Value, []byte("horse")) {
		t.Errorf("%q, %v", e.Value, err)
	}
	for _, place := range []struct {
		org  protocol.OrgID
		name string
	}{{"EVIL-dev", "TOKEN"}, {acme, "OTHER"}} {
		moved := broker.Entry{Key: protocol.SecretKey(place.org, place.name), Value: e.Value, Revision: e.Revision}
		k.learn(t.Context(), broker.Watched{Entry: moved})
		if got, err := k.secretOf(place.org)(place.name); !errors.Is(err, protocol.ErrSeal) {
			t.Errorf("moved to %v it opens: %q, %v", place, got, err)
		}
	}
	if list, err := k.Secrets(t.Context(), acme); err != nil || len(list) != 1 || list[0].Name != "TOKEN" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := k.SetSecret(t.Context(), acme, "TOKEN", "another"); err != nil {
		t.Fatal(err)
	}
	if got, err := k.secretOf(acme)("TOKEN"); err != nil || got != "another" {
		t.Errorf("%q, %v", got, err)
	}
	if err := k.DeleteSecret(t.Context(), acme, "TOKEN"); err != nil {
		t.Fatal(err)
	}
	if err := k.DeleteSecret(t.Context(), acme, "TOKEN"); !errors.Is(err, ErrNoSecret) {
		t.Errorf("deleted twice: %v", err)
	}
	until(t, "nobody has it", func() bool {
		_, one := k.secretOf(acme)("TOKEN")
		_, two := other.secretOf(acme)("TOKEN")
		return errors.Is(one, ErrNoSecret) && errors.Is(two, ErrNoSecret)
	})
	if list, err := k.Secrets(t.Context(), acme); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, bad := range []string{"", strings.Repeat("x", MaxSecret+1)} {
		if _, err := k.SetSecret(t.Context(), acme, "TOKEN", bad); !errors.Is(err, ErrSecretSize) || strings.Contains(err.Error(), "xxx") {
			t.Errorf("a value of %d bytes: %v", len(bad), err)
		}
	}
	for i := range MostSecrets {
		if _, err := k.SetSecret(t.Context(), acme, fmt.Sprint("S", i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.SetSecret(t.Context(), acme, "MORE", "x"); !errors.Is(err, ErrTooMany) {
		t.Errorf("beyond the limit: %v", err)
	}
	if _, err := k.SetSecret(t.Context(), acme, "S7", "y"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

func TestViewsShowWhatWasSaved(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	applied(t, k.Service, "name: a", "name: b")
	told := shown{Counts: Counts{Matched: 3, Copies: 2, Refused: 1}, Problems: []Trouble{{Code: "escapes"}}, Batch: "bat_x"}
	if err := k.show(t.Context(), acme, "a", told); err != nil {
		t.Fatal(err)
	}
	if _, err := k.bucket.Put(t.Context(), protocol.SweepKey(acme, "a"), []byte(`{"id":"swp_1","state":"done","listed":7,"more":1}`)); err != nil {
		t.Fatal(err)
	}
	one, err := k.Rule(t.Context(), acme, "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	list, err := k.Rules(t.Context(), acme)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	one.Versions = nil
	if diff := cmp.Diff(list[0], one); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(told, shown{list[0].Counts, list[0].Problems, list[0].Batch}); diff != "" || list[0].Sweep == nil || list[0].Sweep.Listed != 7 {
		t.Errorf("%+v %s", list[0].Sweep, diff)
	}
	if list[1].Counts != (Counts{}) || list[1].Sweep != nil || list[1].Problems == nil {
		t.Errorf("%+v", list[1])
	}
}
