package protocol_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

func TestValidID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "ORG-dev", "sb_a1b2c3d4", "0", "a.b", strings.Repeat("x", 128)} {
		if !protocol.ValidID(id) {
			t.Errorf("%q is refused", id)
		}
	}
	for _, id := range []string{"", ".", "..", ".a", "-a", "_a", "a b", "a/b", "a\x00", "ä", "a*", "a>", strings.Repeat("x", 129)} {
		if protocol.ValidID(id) {
			t.Errorf("%q is accepted", id)
		}
	}
}

func TestBatchIDs(t *testing.T) {
	t.Parallel()
	a, b := protocol.NewBatchID(), protocol.NewBatchID()
	if a == b || !a.Valid() || !b.Valid() {
		t.Errorf("fresh ids %s and %s", a, b)
	}
	keyed := protocol.KeyedBatchID("ORG", "key")
	if keyed != protocol.KeyedBatchID("ORG", "key") || !keyed.Valid() {
		t.Errorf("the id of a key is not stable: %s", keyed)
	}
	for _, other := range []protocol.BatchID{protocol.KeyedBatchID("ORG", "key2"), protocol.KeyedBatchID("ORG2", "key"), protocol.KeyedBatchID("ORGk", "ey")} {
		if other == keyed {
			t.Errorf("two keys share the id %s", keyed)
		}
	}
	for _, bad := range []protocol.BatchID{"", "bat_", "bat_x", "x" + a, a + "0", "bat_" + "iiiiiiiiiiiiiiiiiiiiiiiiii"} {
		if bad.Valid() {
			t.Errorf("%q is valid", bad)
		}
	}
}

// TestTokensAreInjective shows that two ids never share a token, and that a token is one token: no dot, no wildcard.
func TestTokensAreInjective(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		ta, tb := protocol.Token(a), protocol.Token(b)
		if a != b && ta == tb {
			t.Fatalf("%q and %q share the token %q", a, b, ta)
		}
		if ta == "" || strings.ContainsAny(ta, ".*> \t\r\n/:@") {
			t.Fatalf("%q has the token %q", a, ta)
		}
		if back, ok := protocol.FromToken(ta); !ok || back != a {
			t.Fatalf("%q has the token %q, from which comes %q, %v", a, ta, back, ok)
		}
	})
	for _, none := range []string{"", "=2", "a=", "=zz", "=61", "a.b", "=2E"} {
		if id, ok := protocol.FromToken(none); ok {
			t.Errorf("%q is taken for the token of %q", none, id)
		}
	}
	if got := protocol.Token("s.*"); got != "s=2e=2a" {
		t.Errorf(`Token("s.*") = %q`, got)
	}
}

func TestSubjectsSeparateTenants(t *testing.T) {
	t.Parallel()
	one := protocol.WorkSubject(protocol.Bulk, "p", 3, "a.b", "bat_1")
	if want := "cf.work.bulk.p.3.a=2eb.bat_1"; one != want {
		t.Errorf("subject %q, want %q", one, want)
	}
	if other := protocol.WorkSubject(protocol.Bulk, "p", 3, "a", "b.bat_1"); other == one {
		t.Error("two orgs share a subject")
	}
	if filter := protocol.WorkFilter(protocol.Bulk, "p", 3); !strings.HasPrefix(one, strings.TrimSuffix(filter, ">")) {
		t.Errorf("the filter %q does not match %q", filter, one)
	}
	for _, org := range []protocol.OrgID{"a", "b", "ORG-dev"} {
		if s := protocol.ShardOf(org); s < 0 || s >= protocol.Shards || s != protocol.ShardOf(org) {
			t.Errorf("shard %d of %s", s, org)
		}
	}
}
