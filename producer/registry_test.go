package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

var quiet = slog.New(slog.DiscardHandler)

func newRegistry(t *testing.T, records Records) *Registry {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := NewRegistry(ctx, records, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); r.Wait() })
	return r
}

// eventually polls until done, within a limit that only a failure reaches.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never came: %s", what)
		}
	}
}

// TestRegistryStartsCurrent reads what is there before it answers.
func TestRegistryStartsCurrent(t *testing.T) {
	t.Parallel()
	records := newMemoryRecords()
	first := newRegistry(t, records)
	if _, err := first.AddKey(t.Context(), "some-key", "a.b", RoleCopy, "n"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := first.PutSandbox(t.Context(), "a.b", "box.1", "gpu"); err != nil {
		t.Fatal(err)
	}
	second := newRegistry(t, records)
	who, ok := second.Authenticate("some-key")
	if !ok || who.Org != "a.b" || who.Role != RoleCopy {
		t.Errorf("key: %+v %v", who, ok)
	}
	if s, ok := second.Sandbox("a.b", "box.1"); !ok || s.Pool != "gpu" || s.ID != "box.1" {
		t.Errorf("sandbox: %+v %v", s, ok)
	}
	if err := first.RevokeKey(t.Context(), who.KeyID); err != nil {
		t.Fatal(err)
	}
	if _, ok := first.Authenticate("some-key"); ok {
		t.Error("the key works where it was revoked")
	}
	eventually(t, "the revocation on the other front", func() bool { _, ok := second.Authenticate("some-key"); return !ok })
}

// TestRecordNames holds the names to the alphabet of KV keys, and two things to two names.
func TestRecordNames(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	add := func(name string) {
		if names[name] {
			t.Errorf("%s twice", name)
		}
		names[name] = true
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=.") != "" {
			t.Errorf("%s has other characters", name)
		}
	}
	for _, org := range []protocol.OrgID{"a", "a.b", "A", "a-b"} {
		for _, id := range []protocol.SandboxID{"b", "b.c", "c"} {
			add(sandboxRecord(org, id))
		}
		for _, g := range []Grant{{Bucket: "abc"}, {Bucket: "abc", Prefix: "/"}, {Bucket: "abc", Prefix: "ä b:*>/"}, {Bucket: "a.b.c"}} {
			g.Org = org
			add(g.record())
		}
	}
	add(keyRecord(hashAPIKey("k")))
}

// TestDamagedRecords give nobody access, and stop nothing.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	records := newMemoryRecords()
	good := keyRecord(hashAPIKey("good"))
	for i, rec := range []Record{
		{Key: keyRecord(hashAPIKey("a")), Value: []byte("not json")},
		{Key: keyRecord(hashAPIKey("b")), Value: []byte(`{"id":"x","org":"one","role":"root"}`)},
		{Key: keyRecord(hashAPIKey("c")), Value: []byte(`{"id":"x","org":"a b","role":"admin"}`)},
		{Key: "key.", Value: []byte(`{"id":"x","org":"one","role":"admin"}`)},
		{Key: "key.zz", Value: []byte(`{"id":"x","org":"one","role":"admin"}`)},
		{Key: "key", Value: []byte(`{"id":"x","org":"one","role":"admin"}`)},
		{Key: strings.ToUpper(good[4:]), Value: nil},
		{Key: "sandbox.one.box", Value: []byte(`{"id":"other","org":"one"}`)},
		{Key: "sandbox.one.box2", Value: []byte(`[]`)},
		{Key: "grant.one.x.y", Value: []byte(`{"org":"one","bucket":"abc"}`)},
		{Key: "rule.one", Value: []byte("of someone else")},
		{Key: good, Value: []byte(`{"id":"x","org":"one","role":"admin"}`)},
	} {
		if err := records.Put(t.Context(), rec.Key, rec.Value); err != nil {
			t.Fatal(i, err)
		}
	}
	r := newRegistry(t, records)
	for _, key := range []string{"a", "b", "c", ""} {
		if _, ok := r.Authenticate(key); ok {
			t.Errorf("key %q works", key)
		}
	}
	if _, ok := r.Authenticate("good"); !ok {
		t.Error("the good key does not work")
	}
	if len(r.Grants("one")) != 0 || len(r.Keys("")) != 1 {
		t.Errorf("grants %v, keys %v", r.Grants("one"), r.Keys(""))
	}
	if err := records.Put(t.Context(), good, []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a damaged record takes its key away", func() bool { _, ok := r.Authenticate("good"); return !ok })
}

// TestBrokenWatch is opened again, and what was deleted meanwhile is gone.
func TestBrokenWatch(t *testing.T) {
	t.Parallel()
	records := newMemoryRecords()
	r := newRegistry(t, records)
	key, err := r.AddKey(t.Context(), "some-key", "one", RoleRead, "")
	if err != nil {
		t.Fatal(err)
	}
	records.mu.Lock()
	delete(records.values, keyRecord(key.sum)) // deleted while nobody watched
	records.mu.Unlock()
	records.breakWatches()
	eventually(t, "the key is gone", func() bool { _, ok := r.Authenticate("some-key"); return !ok })
	eventually(t, "the registry is current", r.Current)
	if _, err := r.AddKey(t.Context(), "new-key", "one", RoleRead, ""); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Authenticate("new-key"); !ok {
		t.Error("the new watch delivers nothing")
	}
}

type deadRecords struct{ Records }

func (deadRecords) Watch(context.Context) (<-chan Record, error) { return nil, errors.New("no server") }

type emptyWatch struct{ Records }

func (emptyWatch) Watch(context.Context) (<-chan Record, error) {
	ch := make(chan Record)
	close(ch)
	return ch, nil
}

func TestRegistryThatCannotStart(t *testing.T) {
	t.Parallel()
	for _, records := range []Records{deadRecords{}, emptyWatch{}} {
		if _, err := NewRegistry(t.Context(), records, nil); err == nil {
			t.Errorf("%T: no error", records)
		}
	}
}

func TestRegistryRefusesBadNames(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, newMemoryRecords())
	for _, call := range []func() error{
		func() error { _, err := r.AddKey(t.Context(), "", "one", RoleRead, ""); return err },
		func() error { _, err := r.AddKey(t.Context(), "a b", "one", RoleRead, ""); return err },
		func() error { _, err := r.AddKey(t.Context(), "k", "", RoleRead, ""); return err },
		func() error { _, err := r.AddKey(t.Context(), "k", "one", "root", ""); return err },
		func() error { _, _, err := r.PutSandbox(t.Context(), "one", "../x", ""); return err },
		func() error { _, _, err := r.PutSandbox(t.Context(), "one", "x", "a b"); return err },
		func() error { _, err := r.EnsureSandbox(t.Context(), "one", ""); return err },
		func() error { _, _, err := r.PutGrant(t.Context(), "one", "X", ""); return err },
		func() error { _, _, err := r.PutGrant(t.Context(), "one", "abc", ".."); return err },
		func() error { return r.RevokeKey(t.Context(), "key_none") },
		func() error { return r.ForgetSandbox(t.Context(), "one", "none") },
		func() error { return r.RemoveGrant(t.Context(), "one", "abc", "") },
	} {
		if call() == nil {
			t.Error("no error")
		}
	}
	if len(r.records.(*memoryRecords).values) != 0 {
		t.Error("something was stored")
	}
}

// TestRegistryUnderLoad writes and reads at once, for the race detector; every write is seen by its writer.
func TestRegistryUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, newMemoryRecords())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				key, id := fmt.Sprintf("key-%d-%d", i, j), protocol.SandboxID(fmt.Sprintf("box-%d", j))
				if _, err := r.AddKey(t.Context(), key, "one", RoleRead, ""); err != nil {
					t.Error(err)
				}
				who, ok := r.Authenticate(key)
				if !ok {
					t.Errorf("%s is not known to its maker", key)
				}
				if _, err := r.EnsureSandbox(t.Context(), "one", id); err != nil {
					t.Error(err)
				}
				if err := r.RevokeKey(t.Context(), who.KeyID); err != nil {
					t.Error(err)
				}
				if _, ok := r.Authenticate(key); ok {
					t.Errorf("%s works after it was revoked", key)
				}
			}
		})
	}
	wg.Wait()
	if orgs := r.Orgs(); len(orgs) != 1 || orgs[0].Sandboxes != 20 || orgs[0].Keys != 0 {
		t.Errorf("orgs %+v", orgs)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.waiting) != 0 {
		t.Errorf("%d writes are still waited for", len(r.waiting))
	}
}
