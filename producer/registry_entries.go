package producer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// AddKey registers a key. A key that is known already keeps its id and its time and takes the new org, role and
// name, so that adding the configured key at every start is harmless.
func (r *Registry) AddKey(ctx context.Context, key string, org protocol.OrgID, role Role, name string) (Key, error) {
	switch {
	case !ValidAPIKey(key):
		return Key{}, errors.New("add key: it must be 1 to 512 visible ASCII characters")
	case !protocol.ValidID(string(org)):
		return Key{}, fmt.Errorf("add key: org %q is not a valid id", org)
	case !role.Valid():
		return Key{}, fmt.Errorf("add key: role %q must be read, copy or admin", role)
	}
	sum := hashAPIKey(key)
	record := keyRecord(sum)
	k := Key{ID: newKeyID(), Created: now(), sum: sum}
	r.mu.RLock()
	if old, ok := r.tables.keys[record]; ok {
		k = old
	}
	r.mu.RUnlock()
	k.Org, k.Role, k.Name = org, role, name
	return k, r.put(ctx, record, k)
}

// RevokeKey makes a key worthless. It returns [ErrUnknown] if no key has that id.
func (r *Registry) RevokeKey(ctx context.Context, id string) error {
	record := ""
	r.mu.RLock()
	for name, k := range r.tables.keys {
		if k.ID == id {
			record = name
		}
	}
	r.mu.RUnlock()
	if record == "" {
		return fmt.Errorf("revoke key %s: %w", id, ErrUnknown)
	}
	return r.remove(ctx, record)
}

// Keys returns the keys of an org, or all with "", by age and id.
func (r *Registry) Keys(org protocol.OrgID) []Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	keys := []Key{}
	for _, k := range r.tables.keys {
		if org == "" || k.Org == org {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return keys
}

// Sandbox returns a registered sandbox.
func (r *Registry) Sandbox(org protocol.OrgID, id protocol.SandboxID) (Sandbox, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.tables.sandboxes[sandboxRecord(org, id)]
	return s, ok
}

// PutSandbox registers a sandbox or moves it to another pool; created reports which. The pool "" is
// [protocol.DefaultPool].
func (r *Registry) PutSandbox(ctx context.Context, org protocol.OrgID, id protocol.SandboxID, pool string) (s Sandbox, created bool, err error) {
	if pool == "" {
		pool = protocol.DefaultPool
	}
	if !protocol.ValidID(string(org)) || !protocol.ValidID(string(id)) || !protocol.ValidID(pool) {
		return s, false, errors.New("put sandbox: org, id or pool is not a valid id")
	}
	s, known := r.Sandbox(org, id)
	if !known {
		s = Sandbox{ID: id, Org: org, Created: now()}
	}
	s.Pool = pool
	return s, !known, r.put(ctx, sandboxRecord(org, id), s)
}

// EnsureSandbox returns a sandbox, which comes into being in the default pool if it is unknown. Of two
// that call at the same moment, both get the one that was created.
func (r *Registry) EnsureSandbox(ctx context.Context, org protocol.OrgID, id protocol.SandboxID) (Sandbox, error) {
	if s, ok := r.Sandbox(org, id); ok {
		return s, nil
	}
	if !protocol.ValidID(string(org)) || !protocol.ValidID(string(id)) {
		return Sandbox{}, errors.New("ensure sandbox: org or id is not a valid id")
	}
	s := Sandbox{ID: id, Org: org, Pool: protocol.DefaultPool, Created: now()}
	value, err := json.Marshal(s)
	if err != nil {
		return Sandbox{}, fmt.Errorf("ensure sandbox: %w", err)
	}
	record := sandboxRecord(org, id)
	w := r.expect(record, nil, false)
	defer r.forget(record, w)
	switch err := r.records.Create(ctx, record, value); {
	case errors.Is(err, ErrExists):
		// Another front was faster, or its record came in since we looked: which pool it chose is in there.
		if s, ok := r.Sandbox(org, id); ok {
			return s, nil
		}
		if !r.settle(ctx, w) {
			return Sandbox{}, fmt.Errorf("ensure sandbox %s: it exists, but its record has not come in", id)
		}
	case err != nil:
		return Sandbox{}, fmt.Errorf("ensure sandbox %s: %w", id, err)
	default:
		if !r.settle(ctx, w) {
			r.change(ctx, Record{Key: record, Value: value})
		}
	}
	if known, ok := r.Sandbox(org, id); ok {
		return known, nil
	}
	return s, nil // deleted again meanwhile; the caller was here first
}

// ForgetSandbox removes the registration, not the files. It returns [ErrUnknown] if there is none.
func (r *Registry) ForgetSandbox(ctx context.Context, org protocol.OrgID, id protocol.SandboxID) error {
	if _, ok := r.Sandbox(org, id); !ok {
		return fmt.Errorf("forget sandbox %s: %w", id, ErrUnknown)
	}
	return r.remove(ctx, sandboxRecord(org, id))
}

// PutGrant lets an org use a bucket, or the keys below a prefix; created reports whether it could not before.
// The prefix stands for whole segments: "a" covers "a/b", never "ab".
func (r *Registry) PutGrant(ctx context.Context, org protocol.OrgID, bucket, prefix string) (g Grant, created bool, err error) {
	g = Grant{Org: org, Bucket: bucket, Prefix: wholeSegments(prefix), Created: now()}
	if !protocol.ValidID(string(org)) || bucketFault(bucket) != "" || prefixFault(prefix) != "" {
		return Grant{}, false, errors.New("put grant: org, bucket or prefix is not valid")
	}
	r.mu.RLock()
	old, known := r.tables.grants[g.record()]
	r.mu.RUnlock()
	if known {
		return old, false, nil
	}
	return g, true, r.put(ctx, g.record(), g)
}

// RemoveGrant takes a grant back. Copies that were accepted under it still run. It returns [ErrUnknown] if there is
// no such grant; one that covers more is not touched.
func (r *Registry) RemoveGrant(ctx context.Context, org protocol.OrgID, bucket, prefix string) error {
	record := Grant{Org: org, Bucket: bucket, Prefix: wholeSegments(prefix)}.record()
	r.mu.RLock()
	_, known := r.tables.grants[record]
	r.mu.RUnlock()
	if !known {
		return fmt.Errorf("remove grant of bucket %s to %s: %w", bucket, org, ErrUnknown)
	}
	return r.remove(ctx, record)
}

// Grants returns the grants of an org, by bucket and prefix.
func (r *Registry) Grants(org protocol.OrgID) []Grant {
	r.mu.RLock()
	defer r.mu.RUnlock()
	grants := []Grant{}
	for _, g := range r.tables.byOrg[org] {
		grants = append(grants, g)
	}
	slices.SortFunc(grants, func(a, b Grant) int {
		return cmp.Or(strings.Compare(a.Bucket, b.Bucket), strings.Compare(a.Prefix, b.Prefix))
	})
	return grants
}

// Org is what the registry knows about one org.
type Org struct {
	ID        protocol.OrgID `json:"id"`
	Keys      int            `json:"keys"`
	Sandboxes int            `json:"sandboxes"`
	Grants    int            `json:"grants"`
}

// Orgs returns the orgs that have a key, a sandbox or a grant, by id. An org is nothing beyond these.
func (r *Registry) Orgs() []Org {
	r.mu.RLock()
	defer r.mu.RUnlock()
	byID := map[protocol.OrgID]Org{}
	count := func(id protocol.OrgID, add Org) {
		o := byID[id]
		byID[id] = Org{id, o.Keys + add.Keys, o.Sandboxes + add.Sandboxes, o.Grants + add.Grants}
	}
	for _, k := range r.tables.keys {
		count(k.Org, Org{Keys: 1})
	}
	for _, s := range r.tables.sandboxes {
		count(s.Org, Org{Sandboxes: 1})
	}
	for _, g := range r.tables.grants {
		count(g.Org, Org{Grants: 1})
	}
	orgs := make([]Org, 0, len(byID))
	for _, o := range byID {
		orgs = append(orgs, o)
	}
	slices.SortFunc(orgs, func(a, b Org) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return orgs
}

// wholeSegments makes a prefix end where a segment ends.
func wholeSegments(prefix string) string {
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return prefix
	}
	return prefix + "/"
}

// grants answers whether an org may use a key, from one look at the registry, for one request.
type grants struct {
	all      bool
	prefixes map[string][]string // by bucket
}

func (g grants) cover(bucket, key string) bool {
	return g.all || slices.ContainsFunc(g.prefixes[bucket], func(prefix string) bool {
		return strings.HasPrefix(key, prefix)
	})
}

// now is the time for records: UTC, whole microseconds, so that it reads back as it was written.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
