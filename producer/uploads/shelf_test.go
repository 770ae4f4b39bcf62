package uploads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// errRebound is what a store in memory says of bodies that end early.
var errRebound = errors.New("the store got less than it was promised")

// shelf is a staging storage in memory. Like the real one it keeps a part only if all of it came.
type shelf struct {
	mu      sync.Mutex
	begun   int
	uploads map[string]map[int][]byte // by key and name
	objects map[string][]byte
	down    error
	hook    func(step string) // called before and after what changes
}

func newShelf() *shelf {
	return &shelf{uploads: map[string]map[int][]byte{}, objects: map[string][]byte{}}
}

func (*shelf) Bucket() string { return "staging" }

func (f *shelf) at(step string) {
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	if hook != nil {
		hook(step)
	}
}

func (f *shelf) Begin(_ context.Context, key string, _, _ int64) (string, error) {
	f.mu.Lock()
	if f.down != nil {
		defer f.mu.Unlock()
		return "", f.down
	}
	f.begun++
	name := fmt.Sprintf("m%d", f.begun)
	f.uploads[key+" "+name] = map[int][]byte{}
	f.mu.Unlock()
	f.at("begun")
	return name, nil
}

func (f *shelf) PutPart(_ context.Context, key, multipart string, number int, size int64, body io.Reader) (StagedPart, error) {
	f.at("part")
	data := make([]byte, size)
	if _, err := io.ReadFull(body, data); err != nil {
		return StagedPart{}, fmt.Errorf("%w: %w", errRebound, err)
	}
	f.mu.Lock()
	if f.down != nil {
		defer f.mu.Unlock()
		return StagedPart{}, f.down
	}
	parts := f.uploads[key+" "+multipart]
	if parts == nil {
		defer f.mu.Unlock()
		return StagedPart{}, fmt.Errorf("%s: %w", key, ErrStagedGone)
	}
	parts[number] = data
	f.mu.Unlock()
	f.at("stored")
	return StagedPart{ETag: sha(data)[:32]}, nil
}

func (f *shelf) PutWhole(_ context.Context, key string, size int64, body io.Reader) (int64, error) {
	f.at("whole")
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err //nolint:wrapcheck // it is the body's
	}
	if size >= 0 && int64(len(data)) != size {
		return 0, errRebound
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return 0, f.down
	}
	f.objects[key] = data
	return int64(len(data)), nil
}

func (f *shelf) Clean(_ context.Context, key, multipart string, all bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return f.down
	}
	delete(f.uploads, key+" "+multipart)
	if all {
		delete(f.objects, key)
		for name := range f.uploads {
			if strings.HasPrefix(name, key+" ") {
				delete(f.uploads, name)
			}
		}
	}
	return nil
}

// left is what is there.
func (f *shelf) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.uploads) + len(f.objects)
}

func (f *shelf) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

func (f *shelf) on(hook func(step string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}
