package happy

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// counted passes connections on to a server and counts what is said on them, in both directions.
type counted struct {
	net.Listener
	to    string
	bytes atomic.Int64
	open  sync.WaitGroup
}

func newCounted(t *testing.T, to string) *counted {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counted{Listener: listener, to: strings.TrimPrefix(to, "http://")}
	c.open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.open.Go(func() { c.pass(conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); c.open.Wait() })
	return c
}

func (c *counted) pass(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer out.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(in, io.TeeReader(out, c))
		_ = in.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(out, io.TeeReader(in, c))
	_ = out.(*net.TCPConn).CloseWrite()
	<-back
}

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

// TestNoByteOfAServerCopyCrossesAWorker counts what workers say to the store, and it to them, while objects are copied that are as large as
// would be seen.
func TestNoByteOfAServerCopyCrossesAWorker(t *testing.T) {
	t.Parallel()
	minio := miniotest.Start(t)
	f := mixtest.NewRoles(t, minio, mixtest.Steady)
	wire := newCounted(t, minio.Endpoint)
	f.StartNATS(t)
	f.Start(t, "api")
	f.Start(t, "aggregator")
	worker := f.Start(t, "worker", "S3_ENDPOINT=http://"+wire.Addr().String())
	content := bytes.Repeat([]byte("0123456789abcdef"), 768<<10) // 12 MiB
	lay := func(path, key string) {
		src := f.FromSandbox(t, path, content)
		for _, r := range copies(t, f, mixtest.Batch{{ID: key, Src: src, Dest: f.ToObject(key)}}.Files()) {
			if !r.Success {
				t.Fatalf("%+v", r)
			}
		}
	}
	lay("/big", "from/big")
	if wire.bytes.Load() < int64(len(content)) {
		t.Fatalf("the way of the worker to the store is not counted: %d bytes", wire.bytes.Load())
	}
	run := func(item map[string]any) (protocol.Receipt, int64) {
		t.Helper()
		before := wire.bytes.Load()
		answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, map[string]any{"items": []any{item}})
		if err != nil || answer.Status != http.StatusAccepted {
			t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
		}
		f.API.WaitFinal(t, answer.Batch(), limit)
		receipts, err := f.API.Receipts(t.Context(), answer.Batch())
		if err != nil || len(receipts) != 1 || len(receipts[0].Attempts) != 1 {
			t.Fatalf("%v: %+v", err, receipts)
		}
		return receipts[0], wire.bytes.Load() - before
	}
	size := int64(len(content))
	const few = 64 << 10 // bytes, of requests and answers
	for _, row := range []struct {
		name    string
		members string
		method  string
		code    string
	}{
		{"copy", `{}`, protocol.MethodServerCopy, ""},
		{"its-size", `{"size":12582912}`, protocol.MethodServerCopy, ""},
		{"if-new", `{"conflict":"fail"}`, protocol.MethodServerCopy, ""},
		{"skip", `{"conflict":"skip"}`, protocol.MethodServerCopy, ""},
		{"if-different", `{"conflict":"if_different"}`, protocol.MethodServerCopy, ""},
		{"another-size", `{"size":7}`, "", "source_size_mismatch"},
		{"sha256", `{"sha256":"` + mixtest.SHA256(content) + `"}`, protocol.MethodStream, ""}, // nobody keeps one: it is read
	} {
		item := map[string]any{}
		if err := json.Unmarshal([]byte(row.members), &item); err != nil {
			t.Fatal(err)
		}
		key := "to/" + row.name
		item["src"], item["dest"] = f.ToObject("from/big"), f.ToObject(key)
		r, bytes := run(item)
		if code := codeOf(&r); r.Method != row.method || code != row.code {
			t.Fatalf("%s: %+v, failure %+v", row.name, r, r.Failure)
		}
		if streamed := row.method == protocol.MethodStream; streamed != (bytes > few) || streamed != (r.Attempts[0].Bytes == size) {
			t.Errorf("%s: %d bytes crossed the worker, of which %d were content", row.name, bytes, r.Attempts[0].Bytes)
		}
		if row.code != "" {
			continue
		}
		if got, err := f.API.Object(t.Context(), f.Bucket, key); err != nil || mixtest.SHA256(got) != mixtest.SHA256(content) {
			t.Errorf("%s: %d bytes arrived, %v", row.name, len(got), err)
		}
		if !r.Verified || r.Bytes != size || r.ETag == "" {
			t.Errorf("%s: %+v", row.name, r)
		}
	}
	// What is there and the same is not even copied, and what must not be replaced stays.
	same := map[string]any{"src": f.ToObject("from/big"), "dest": f.ToObject("to/copy"), "conflict": "if_different"}
	if r, bytes := run(same); r.SkipReason != protocol.SkipSame || bytes > few {
		t.Errorf("%d bytes, %+v", bytes, r)
	}
	same["conflict"] = "fail"
	if r, bytes := run(same); codeOf(&r) != "destination_exists" || bytes > few {
		t.Errorf("%d bytes, %+v", bytes, r)
	}
	if err := os.Remove(f.OnDisk("/big")); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(worker.Log(), "X-Amz-Signature") {
		t.Error("a signature is in the log")
	}
}

func codeOf(r *protocol.Receipt) string {
	if r.Failure == nil {
		return ""
	}
	return r.Failure.Code
}
