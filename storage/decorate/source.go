package decorate

import (
	"context"

	"github.com/copyfleet/copyfleet/storage"
)

// Source puts hooks around a source.
func Source(inner storage.Source, hooks Hooks) storage.Source {
	s := &source{in: inner, hooks: hooks}
	r, ranged := inner.(storage.Ranger)
	d, knows := inner.(storage.Digested)
	switch {
	case ranged && knows:
		return &digestedRanger{&ranger{s, r}, digested{s, d}}
	case ranged:
		return &ranger{s, r}
	case knows:
		return &digestedSource{s, digested{s, d}}
	}
	return s
}

// digestedSource and digestedRanger are sources that know digests. One that does not must not seem to: what it would say of its size is no
// answer.
type (
	digestedSource struct {
		*source
		digested
	}
	digestedRanger struct {
		*ranger
		digested
	}
)

type source struct {
	in    storage.Source
	hooks Hooks
}

func (s *source) inner() any { return s.in }

// Open opens the inner source.
func (s *source) Open(ctx context.Context) (*storage.Object, error) {
	return s.open(ctx, Open, func() (*storage.Object, error) { return s.in.Open(ctx) })
}

func (s *source) open(ctx context.Context, op Op, open func() (*storage.Object, error)) (object *storage.Object, err error) {
	err = s.hooks.call(ctx, op, func() (err error) {
		object, err = open()
		return err
	})
	if err != nil {
		if object != nil {
			_ = object.Body.Close() // the error is the hook's
		}
		return nil, err
	}
	object.Body = s.hooks.closing(ctx, op, object.Body)
	return object, nil
}

// Stat asks the inner source.
func (s *source) Stat(ctx context.Context) (stat storage.Stat, err error) {
	in, ok := s.in.(interface {
		Stat(ctx context.Context) (storage.Stat, error)
	})
	if !ok {
		return storage.Stat{}, unsupported(Stat)
	}
	err = s.hooks.call(ctx, Stat, func() (err error) {
		stat, err = in.Stat(ctx)
		return err
	})
	return stat, err
}

// digested is what knows digests of a source.
type digested struct {
	of *source
	in storage.Digested
}

// Digests asks the inner source.
func (d digested) Digests(ctx context.Context) (digests storage.Digests, err error) {
	err = d.of.hooks.call(ctx, Digests, func() (err error) {
		digests, err = d.in.Digests(ctx)
		return err
	})
	return digests, err
}

// ranger is a source that can be read from the middle.
type ranger struct {
	*source

	in storage.Ranger
}

// OpenRange opens a part of the inner source.
func (r *ranger) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	return r.open(ctx, OpenRange, func() (*storage.Object, error) { return r.in.OpenRange(ctx, mark, offset, length) })
}
