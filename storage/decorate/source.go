package decorate

import (
	"context"

	"github.com/copyfleet/copyfleet/storage"
)

// Source puts hooks around a source.
func Source(inner storage.Source, hooks Hooks) storage.Source {
	s := &source{in: inner, hooks: hooks}
	if r, ok := inner.(storage.Ranger); ok {
		return &ranger{s, r}
	}
	return s
}

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

// Digests asks the inner source; one that knows none has none.
func (s *source) Digests(ctx context.Context) (digests storage.Digests, err error) {
	in, ok := s.in.(storage.Digested)
	if !ok {
		return storage.Digests{}, nil
	}
	err = s.hooks.call(ctx, Digests, func() (err error) {
		digests, err = in.Digests(ctx)
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
