package target_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/storage/object"
)

func sizes(tb testing.TB, text string) workload.Sizes {
	tb.Helper()
	s, err := workload.ParseSizes(text, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newS3(tb testing.TB, cfg target.S3Config) *target.S3 {
	tb.Helper()
	if cfg.Payload == nil {
		cfg.Payload = workload.NewPayload(1, 0)
	}
	s, err := target.NewS3(&cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func minio(tb testing.TB) (target.S3Config, *miniotest.Server) {
	tb.Helper()
	server := miniotest.Shared(tb)
	raw := object.RawConfig{Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey, Connections: 8}
	return target.S3Config{Endpoints: []object.RawConfig{raw}, Bucket: server.NewBucket(tb), Prefix: "copyfleet-bench/r1/", Verify: true}, server
}

// Every operation is made on a real store, and what is read is what was written, however the operations overlap.
func TestOperationsOnMinIO(t *testing.T) {
	cfg, _ := minio(t)
	cfg.PartSize = 5 << 20
	s := newS3(t, cfg)
	if others, err := s.Check(t.Context()); others || err != nil {
		t.Fatalf("%v, %v", others, err)
	}
	mix, err := workload.ParseMix("put=3,get=4,stat=2,list=1,delete=2")
	if err != nil {
		t.Fatal(err)
	}
	load := workload.NewLoad(workload.Config{Mix: mix, Sizes: sizes(t, "0:1,1KiB:3,100KiB:2,2MiB:1"), Objects: 20, Count: 400})
	if err := loadtest.Prepare(t.Context(), load, 8, s); err != nil {
		t.Fatal(err)
	}
	r := record.NewRecorder(0, nil)
	if partial := loadtest.Run(t.Context(), &loadtest.Plan{Load: load, Concurrency: 8}, s, r); partial != "" {
		t.Error(partial)
	}
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range totals.Faults {
		t.Errorf("%d times %s failed: %+v", f.Count, f.Kind, f.Fault)
	}
	first := int64(0)
	for _, g := range totals.Groups {
		first += g.First.Count()
	}
	if first == 0 {
		t.Error("no get has a first byte")
	}
	parts := workload.Op{Kind: workload.Multipart, Object: workload.Object{Number: 1 << 40, Size: 11<<20 + 3}}
	for _, kind := range []workload.Kind{workload.Multipart, workload.Get, workload.Stat} {
		parts.Kind = kind
		if result := s.Do(t.Context(), &parts); result.Fault != nil {
			t.Errorf("%s: %+v", kind, result.Fault)
		}
	}
	if n, err := s.Clear(t.Context()); n < 2 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	if n, err := s.Clear(t.Context()); n != 0 || err != nil {
		t.Errorf("%d were left, %v", n, err)
	}
}

func TestOnlyItsOwnIsRemoved(t *testing.T) {
	cfg, _ := minio(t)
	mine := newS3(t, cfg)
	cfg.Prefix = "copyfleet-bench/r2/"
	other := newS3(t, cfg)
	cfg.Prefix = "of-somebody/"
	somebody := newS3(t, cfg)
	put := func(s *target.S3) {
		t.Helper()
		if result := s.Do(t.Context(), &workload.Op{Kind: workload.Put, Object: workload.Object{Size: 10}}); result.Fault != nil {
			t.Fatal(result.Fault)
		}
	}
	put(mine)
	put(other)
	if others, err := mine.Check(t.Context()); others || err != nil {
		t.Errorf("another load test is somebody else: %v, %v", others, err)
	}
	put(somebody)
	if others, err := mine.Check(t.Context()); !others || err != nil {
		t.Errorf("nobody else is in the bucket: %v, %v", others, err)
	}
	if n, err := mine.Clear(t.Context()); n != 1 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	for _, s := range []*target.S3{other, somebody} {
		if result := s.Do(t.Context(), &workload.Op{Kind: workload.Get, Object: workload.Object{Size: 10}}); result.Fault != nil {
			t.Errorf("%+v", result.Fault)
		}
	}
	if _, err := newS3(t, target.S3Config{Endpoints: cfg.Endpoints, Bucket: cfg.Bucket, Prefix: "no-slash"}).Clear(t.Context()); err == nil {
		t.Error("what begins with a prefix that is no directory is removed")
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := other.Clear(canceled); err == nil {
		t.Errorf("%d removed, and nothing is said", n)
	}
}

func TestFailuresSayWhy(t *testing.T) {
	cfg, _ := minio(t)
	cfg.Verify = true
	s := newS3(t, cfg)
	written := workload.Object{Number: 1, Size: 5000}
	if result := s.Do(t.Context(), &workload.Op{Kind: workload.Put, Object: written}); result.Fault != nil {
		t.Fatal(result.Fault)
	}
	noBucket, wrongKey, nobody := cfg, cfg, cfg
	noBucket.Bucket = "there-is-none"
	wrongKey.Endpoints = []object.RawConfig{cfg.Endpoints[0]}
	wrongKey.Endpoints[0].SecretKey = "wrong-secret-key"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Endpoints = []object.RawConfig{{Endpoint: "http://" + l.Addr().String(), AccessKey: "a", SecretKey: "bbbbbbbb"}}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg         target.S3Config
		kind        workload.Kind
		object      workload.Object
		class, code string
		down        bool
	}{
		{cfg, workload.Get, workload.Object{Number: 2, Size: 1}, "not_found", "", false},
		{cfg, workload.Get, workload.Object{Number: 1, Version: 7, Size: 5000}, "corrupt", "content_differs", false},
		{cfg, workload.Get, workload.Object{Number: 1, Size: 4999}, "corrupt", "content_differs", false},
		{cfg, workload.Get, workload.Object{Number: 1, Size: 5001}, "corrupt", "wrong_length", false},
		{cfg, workload.Stat, workload.Object{Number: 1, Size: 5001}, "corrupt", "wrong_length", false},
		{noBucket, workload.Put, written, "not_found", "", false},
		{wrongKey, workload.Put, written, "denied", "", false},
		{wrongKey, workload.List, written, "denied", "", false},
		{nobody, workload.Put, written, "unavailable", "", true},
		{nobody, workload.Multipart, written, "unavailable", "", true},
	} {
		result := newS3(t, c.cfg).Do(t.Context(), &workload.Op{Kind: c.kind, Object: c.object})
		switch f := result.Fault; {
		case f == nil:
			t.Errorf("%+v %s went well", c.object, c.kind)
		case f.Class != c.class || c.code != "" && f.Code != c.code || result.Down != c.down || f.Code == "" || f.Message == "":
			t.Errorf("%+v %s: %+v, down %v", c.object, c.kind, f, result.Down)
		case strings.Contains(f.Message, "Signature="), strings.Contains(f.Message, "bbbbbbbb"), strings.Contains(f.Message, "wrong-secret"):
			t.Errorf("a secret is told: %s", f.Message)
		}
	}
	if _, err := newS3(t, noBucket).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("%v", err)
	}
}
