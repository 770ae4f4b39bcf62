package worker

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// shelf is a store of objects in memory that counts what it is asked for.
type shelf struct {
	copies  bool              // it makes copies itself
	damages bool              // and they are not what they should be
	extra   map[string]string // digests that it knows of every object
	meddle  func()            // is called before an object becomes visible

	mu                    sync.Mutex
	held                  map[string][]byte
	trails                map[string]string
	opened, asked, copied int
}

func newShelf(objects ...string) *shelf {
	s := &shelf{held: map[string][]byte{}, trails: map[string]string{}}
	for i := 0; i < len(objects); i += 2 {
		s.held[objects[i]] = []byte(objects[i+1])
	}
	return s
}

func onShelf(key string) protocol.Location {
	return protocol.Location{Type: protocol.Object, Bucket: "shelf", Key: key}
}

func (s *shelf) Source(_, key string) storage.Source           { return &shelved{s, key} }
func (s *shelf) Destination(_, key string) storage.Destination { return &shelved{s, key} }

func (s *shelf) put(key, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[key] = []byte(text)
}

func (s *shelf) get(key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.held[key]
	return string(data), ok
}

type shelved struct {
	shelf *shelf
	key   string
}

func (o *shelved) look() (data []byte, mark storage.Mark, err error) {
	o.shelf.mu.Lock()
	defer o.shelf.mu.Unlock()
	o.shelf.asked++
	data, ok := o.shelf.held[o.key]
	if !ok {
		e := storage.Errorf(storage.NotFound, "source_object_not_found", "open", o.key, "it does not exist")
		e.Status, e.StatusText = 404, "404 Not Found"
		return nil, mark, e
	}
	sum := md5.Sum(data)
	return data, storage.Mark{ETag: `"` + hex.EncodeToString(sum[:]) + `"`, Size: int64(len(data))}, nil
}

func (o *shelved) Open(context.Context) (*storage.Object, error) {
	data, mark, err := o.look()
	if err != nil {
		return nil, err
	}
	o.shelf.mu.Lock()
	o.shelf.opened++
	o.shelf.mu.Unlock()
	return &storage.Object{Body: io.NopCloser(bytes.NewReader(data)), Size: mark.Size, ETag: mark.ETag, Status: 200}, nil
}

func (o *shelved) Stat(context.Context) (storage.Stat, error) {
	_, mark, err := o.look()
	return storage.Stat{Size: mark.Size, ETag: mark.ETag, Ranges: true}, err
}

func (o *shelved) Digests(context.Context) (storage.Digests, error) {
	_, mark, err := o.look()
	if err != nil {
		return storage.Digests{}, err
	}
	known := storage.Digests{Mark: mark, Of: map[string]string{storage.DigestMD5: mark.ETag[1 : len(mark.ETag)-1]}}
	maps.Copy(known.Of, o.shelf.extra)
	return known, nil
}

func (o *shelved) NeedsSize() bool { return true }

func (o *shelved) Put(_ context.Context, content storage.Content) (storage.Stored, error) {
	data, err := io.ReadAll(content.Body)
	if err != nil {
		return storage.Stored{}, err
	}
	return o.show(data, content.Trail, content.OnlyNew, content.Ready)
}

func (o *shelved) show(data []byte, trail string, onlyNew bool, ready func() error) (storage.Stored, error) {
	if o.shelf.meddle != nil {
		o.shelf.meddle()
	}
	if err := ready(); err != nil {
		return storage.Stored{}, err
	}
	o.shelf.mu.Lock()
	defer o.shelf.mu.Unlock()
	if _, there := o.shelf.held[o.key]; there && onlyNew {
		return storage.Stored{}, storage.Errorf(storage.Conflict, storage.CodeDestinationExists, "commit", o.key, "it exists already")
	}
	o.shelf.held[o.key], o.shelf.trails[o.key] = data, trail
	return storage.Stored{Bytes: int64(len(data)), ETag: "new"}, nil
}

func (o *shelved) CopyFrom(_ context.Context, source storage.Source, c storage.DirectCopy) (storage.Stored, bool, error) {
	from, ok := source.(*shelved)
	if !ok || !o.shelf.copies || from.shelf != o.shelf {
		return storage.Stored{}, false, nil
	}
	data, mark, err := from.look()
	if err != nil {
		return storage.Stored{}, true, err
	}
	if c.Mark.Size != storage.UnknownSize && !mark.Equal(c.Mark) {
		return storage.Stored{}, true, storage.Errorf(storage.Corrupt, storage.CodeSourceChanged, "copy", o.key, "it is another one")
	}
	stored, err := o.show(data, c.Trail, c.OnlyNew, c.Ready)
	stored.Compared = !o.shelf.damages
	o.shelf.mu.Lock()
	o.shelf.copied++
	o.shelf.mu.Unlock()
	return stored, true, err
}

// noTime is a time of modification that is not told.
var noTime time.Time
