package worker

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
	"github.com/copyfleet/copyfleet/storage/faulty"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/storage/object"
)

// visiting returns the visit of an item at one host, or, of no host, at none.
func visiting(t *testing.T, cfg hosts.Config, host string) *hosts.Visit {
	t.Helper()
	ask := hosts.Ask{Tenant: "ORG"}
	if host != "" {
		ask.Keys = []hosts.Key{{Side: hosts.Source, Host: host}}
	}
	v, err := hosts.New(cfg).Enter(t.Context(), ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Leave() })
	return v
}

// TestRatesHoldAroundDrivers copies from a host, and in parts of it, with a limit to its bytes or those of its tenant.
func TestRatesHoldAroundDrivers(t *testing.T) {
	t.Parallel()
	const rate, size = 400_000, 200_000
	for name, cfg := range map[string]hosts.Config{"host": {HostBytes: rate}, "tenant": {TenantBytes: rate}, "none": {}} {
		b := newBench(t)
		url := b.serve(func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "f", time.Unix(1, 0), bytes.NewReader(make([]byte, size)))
		})
		tr := transfer{
			org: "ORG", src: protocol.Location{Type: protocol.HTTPGet, URL: url + "/f"}, dest: inSandbox("/to"), temp: "t",
			fence: func() error { return nil }, visit: visiting(t, cfg, url),
		}
		begun := time.Now()
		if came, err := b.copier.copy(t.Context(), tr); err != nil || came.stored != size {
			t.Fatalf("%s: %+v, %v", name, came, err)
		}
		var resumes atomic.Int64
		from, _ := b.copier.source(tr).(storage.Ranger)
		object, err := b.copier.openRange(t.Context(), &tr, from, storage.Mark{Modified: time.Unix(1, 0).UTC(), Size: size}, 0, size, &resumes)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, object.Body); n != size || err != nil {
			t.Fatalf("%s: %d bytes, %v", name, n, err)
		}
		if err := object.Body.Close(); err != nil {
			t.Error(err)
		}
		// A burst is free. That it takes longer on a busy machine says nothing.
		if took, least := time.Since(begun), time.Second*2*size/rate*8/10; name != "none" && took < least {
			t.Errorf("%s: twice %d bytes at %d a second took %s", name, size, rate, took)
		}
	}
}

// cutter is a proxy whose first connection ends after so many bytes have come from the server.
type cutter struct {
	listener net.Listener
	server   string
	cut      atomic.Int64 // bytes; negative: no more connections are cut
	all      sync.WaitGroup
}

func cutterTo(t *testing.T, url string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, server: strings.TrimPrefix(url, "http://")}
	c.cut.Store(-1)
	c.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.all.Go(func() { c.pass(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); c.all.Wait() })
	return c
}

func (c *cutter) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	var up sync.WaitGroup
	up.Go(func() { _, _ = io.Copy(server, client); server.Close() })
	defer up.Wait()
	defer client.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if left := c.cut.Load(); left >= 0 {
			if c.cut.Add(int64(-n)) < 0 {
				return // this connection, and no other one
			}
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestFilesInTheStoreGoOn breaks the connection to the store in the middle of a file of a sandbox that is kept there, as a whole and as a part.
func TestFilesInTheStoreGoOn(t *testing.T) {
	t.Parallel()
	server := miniotest.Start(t)
	proxy := cutterTo(t, server.Endpoint)
	b := newBench(t)
	store, err := object.New(object.Config{
		Endpoint: "http://" + proxy.listener.Addr().String(), AccessKey: server.AccessKey, SecretKey: server.SecretKey, Transport: b.client,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	boxes, err := store.Sandboxes(server.NewBucket(t), "boxes")
	if err != nil {
		t.Fatal(err)
	}
	data := bytesOf(8<<20, 3)
	_, err = boxes.Destination("ORG", "s", "/in", "", nil).Put(t.Context(), storage.Content{Body: bytes.NewReader(data), Size: int64(len(data))})
	if err != nil {
		t.Fatal(err)
	}
	b.copier.drivers.Sandboxes = boxes
	tr := transfer{org: "ORG", src: inSandbox("/in")}
	var mark storage.Mark
	for _, part := range []bool{false, true} {
		var resumes atomic.Int64
		source, from := b.copier.source(tr), int64(0)
		open := func() (*storage.Object, error) { return b.copier.open(t.Context(), tr, source, &resumes) }
		if part {
			from = 1 << 20
			open = func() (*storage.Object, error) {
				return b.copier.openRange(t.Context(), &tr, source.(storage.Ranger), mark, from, storage.UnknownSize, &resumes)
			}
		}
		proxy.cut.Store(3 << 20)
		file, err := open()
		if err != nil {
			t.Fatal(err)
		}
		mark = file.Mark()
		if part {
			mark.Size = int64(len(data))
		}
		got, err := io.ReadAll(file.Body)
		if err != nil || !bytes.Equal(got, data[from:]) || resumes.Load() != 1 {
			t.Errorf("part %t: %d bytes, %v; it went on %d times", part, len(got), err, resumes.Load())
		}
		if err := file.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestEachStepMayFail has each method of both ends fail once, before its work or after it, and has the next attempt bring the item to its end.
func TestEachStepMayFail(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		for _, op := range []decorate.Op{
			decorate.Open, decorate.OpenRange, decorate.Begin, decorate.PutPart, decorate.Complete, decorate.Abort, decorate.OpenUpload, decorate.Put,
		} {
			for _, parts := range []bool{true, false} {
				t.Run(path.Join(string(op), "late="+strconv.FormatBool(late), "parts="+strconv.FormatBool(parts)), func(t *testing.T) {
					t.Parallel()
					away := storage.Errorf(storage.Unavailable, "away", string(op), "it", "it does not answer")
					set := faulty.New(1, faulty.Fault{Op: op, Err: away, Late: late, Times: 1})
					data := bytesOf(manyParts, 1)
					dest := &memory.Destination{}
					k := newPartsKit(t, set.Source(sourceOf(data)), set.Destination(dest))
					cfg := k.config("w1")
					if !parts {
						cfg.PartThreshold = 1 << 40
					}
					k.run(t, cfg)
					k.publish(t, nil)
					if r := k.final(t); r.State != protocol.ItemSucceeded || r.Bytes != int64(len(data)) {
						t.Errorf("%s, %+v", r.State, r.Failure)
					}
					if got, _ := dest.Bytes(); !bytes.Equal(got, data) {
						t.Errorf("%d bytes arrived", len(got))
					}
					k.clean(t)
					k.idle(t)
					if left := dest.Uploads(); len(left) != 0 {
						t.Errorf("uploads are left: %v", left)
					}
				})
			}
		}
	}
}
