package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// S3Config says what an [S3] does.
type S3Config struct {
	Endpoints []object.RawConfig // at least one; operations take turns
	Bucket    string
	Prefix    string // of all keys; ends with a slash
	Root      string // of the keys of all load tests, with a slash; "": the first directory of Prefix
	Payload   *workload.Payload
	PartSize  int64 // bytes of a part of a Multipart; 0: 16 MiB
	PartsOnce int   // parts of one object at once; 0: 4
	Page      int   // objects of a List; 0: 1000
	Verify    bool  // compare what is read with what was written
}

// S3 makes operations on a store.
type S3 struct {
	cfg     S3Config
	hosts   []*object.Raw
	content sync.Pool // of *workload.Content
	buffers sync.Pool // of *[readBytes]byte
}

const (
	readBytes   = 64 << 10
	defaultPart = 16 << 20
	defaultPage = 1000
	defaultOnce = 4
)

// NewS3 returns a target. It does not connect.
func NewS3(cfg *S3Config) (*S3, error) {
	s := &S3{cfg: *cfg}
	for i := range cfg.Endpoints {
		host, err := object.NewRaw(cfg.Endpoints[i])
		if err != nil {
			return nil, err //nolint:wrapcheck // says what is wrong; the URL itself may have a password in it
		}
		s.hosts = append(s.hosts, host)
	}
	if len(s.hosts) == 0 {
		return nil, errors.New("a load needs an endpoint")
	}
	set(&s.cfg.PartSize, defaultPart)
	set(&s.cfg.PartsOnce, defaultOnce)
	set(&s.cfg.Page, defaultPage)
	s.content.New = func() any { return cfg.Payload.Content(workload.Object{}) }
	s.buffers.New = func() any { return new([2][readBytes]byte) }
	return s, nil
}

func set[T int | int64](value *T, unset T) {
	if *value == 0 {
		*value = unset
	}
}

// Close closes connections.
func (s *S3) Close() {
	for _, h := range s.hosts {
		h.Close()
	}
}

// Key is the key of an object.
func (s *S3) Key(o workload.Object) string { return keyBelow(s.cfg.Prefix, o.Number) }

// keyBelow is a key below a prefix. Keys that begin alike would all fall to one part of an index: the low digits come first.
func keyBelow(prefix string, number uint64) string {
	key := make([]byte, 0, len(prefix)+24)
	key = append(key, prefix...)
	const digits = "0123456789abcdef"
	key = append(key, digits[number>>4&15], digits[number&15], '/')
	return string(strconv.AppendUint(key, number, 10))
}

// Check tells whether the bucket is there, and whether it has keys beside those of load tests.
func (s *S3) Check(ctx context.Context) (others bool, err error) {
	root := s.cfg.Root
	if root == "" {
		root = s.cfg.Prefix[:strings.IndexByte(s.cfg.Prefix, '/')+1]
	}
	return s.hosts[0].Others(ctx, s.cfg.Bucket, root) //nolint:wrapcheck // says what and where
}

// Clear removes all objects of the load, and returns how many there were.
func (s *S3) Clear(ctx context.Context) (int, error) {
	return s.hosts[0].Clear(ctx, s.cfg.Bucket, s.cfg.Prefix) //nolint:wrapcheck // says what and where
}

// Do implements loadtest.Target.
func (s *S3) Do(ctx context.Context, op *workload.Op) loadtest.Result {
	host := s.hosts[op.N%uint64(len(s.hosts))]
	result := loadtest.Result{Host: host.Host()}
	var err error
	switch key := s.Key(op.Object); op.Kind {
	case workload.Put:
		err = s.put(ctx, host, key, op.Object)
	case workload.Get:
		result.First, err = s.get(ctx, host, key, op.Object)
	case workload.Stat:
		err = s.stat(ctx, host, key, op.Object)
	case workload.List:
		_, err = host.List(ctx, s.cfg.Bucket, s.cfg.Prefix, key, s.cfg.Page)
	case workload.Delete:
		err = host.Delete(ctx, s.cfg.Bucket, key)
	case workload.Multipart:
		err = host.PutParts(ctx, s.cfg.Bucket, key, op.Object.Size, s.cfg.PartSize, s.cfg.PartsOnce, func(at, length int64) io.Reader {
			return s.cfg.Payload.Part(op.Object, at, length)
		})
	case workload.Copy:
		err = fmt.Errorf("a store makes no %s", op.Kind)
	}
	if err != nil {
		result.Fault, result.Down = Explain(err)
	}
	return result
}

func (s *S3) put(ctx context.Context, host *object.Raw, key string, o workload.Object) error {
	content, _ := s.content.Get().(*workload.Content)
	content.Reset(o)
	err := host.Put(ctx, s.cfg.Bucket, key, content, o.Size)
	if err == nil { // one that failed may still be reading it
		s.content.Put(content)
	}
	return err
}

func (s *S3) stat(ctx context.Context, host *object.Raw, key string, o workload.Object) error {
	size, err := host.Stat(ctx, s.cfg.Bucket, key)
	if err == nil && size != o.Size {
		return wrongLength(s.cfg.Bucket, key, size, o.Size)
	}
	return err
}

// get reads an object whole, and returns when its first byte came.
func (s *S3) get(ctx context.Context, host *object.Raw, key string, o workload.Object) (first time.Duration, err error) {
	start := time.Now()
	body, _, err := host.Get(ctx, s.cfg.Bucket, key)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	buffers, _ := s.buffers.Get().(*[2][readBytes]byte)
	defer s.buffers.Put(buffers)
	var want *workload.Content
	if s.cfg.Verify {
		want = s.cfg.Payload.Content(o)
	}
	read := int64(0)
	for {
		n, err := body.Read(buffers[0][:])
		if first == 0 && (n > 0 || err == io.EOF) {
			first = max(1, time.Since(start))
		}
		if want != nil {
			made, _ := io.ReadFull(want, buffers[1][:n]) // shorter where the object should have ended
			if made != n || !bytes.Equal(buffers[0][:n], buffers[1][:n]) {
				return first, fault(storage.Corrupt, "content_differs", s.cfg.Bucket, key, "what was read is not what was written")
			}
		}
		read += int64(n)
		switch {
		case read > o.Size: // it may have no end
			return first, fault(storage.Corrupt, "wrong_length", s.cfg.Bucket, key, "more came of it than the %d bytes that were written", o.Size)
		case errors.Is(err, io.EOF) && read == o.Size:
			return first, nil
		case errors.Is(err, io.EOF):
			return first, wrongLength(s.cfg.Bucket, key, read, o.Size)
		case err != nil:
			return first, fault(storage.Interrupted, "broken_off", s.cfg.Bucket, key, "the connection broke off after %d bytes", read)
		}
	}
}

func fault(class storage.Class, code, bucket, key, format string, args ...any) error {
	return storage.Errorf(class, code, "read", "s3://"+bucket+"/"+key, format, args...)
}

func wrongLength(bucket, key string, got, want int64) error {
	return fault(storage.Corrupt, "wrong_length", bucket, key, "it has %d bytes, and %d were written", got, want)
}

// Explain turns an error into what is recorded. down says that nothing answered.
func Explain(err error) (fault *record.Fault, down bool) {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return &record.Fault{Class: storage.ClassOf(err).String(), Code: "unknown", Message: brief(err.Error())}, false
	}
	fault = &record.Fault{Class: e.Class.String(), Code: brief(e.Code), Message: brief(e.Error()), Hint: brief(e.Hint)}
	return fault, e.Status == 0 && e.Class != storage.Corrupt
}

// Failure turns what was recorded back into an error.
func Failure(fault *record.Fault, op, subject string) *storage.Error {
	return &storage.Error{Class: classNamed(fault.Class), Code: fault.Code, Op: op, Subject: subject, Message: fault.Message, Hint: fault.Hint}
}

// classNamed is the class that a word stands for.
func classNamed(word string) storage.Class {
	for class := storage.Internal; class <= storage.Interrupted; class++ {
		if class.String() == word {
			return class
		}
	}
	return storage.Internal
}
