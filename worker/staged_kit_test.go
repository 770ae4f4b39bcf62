package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
	"github.com/copyfleet/copyfleet/storage/object"
)

const stagedPart = 5 << 20 // the least that S3 takes

// stagedKit is a session whose parts lie in a real store, and a batch that publishes it.
type stagedKit struct {
	*partsKit

	store   *object.Store
	bucket  string
	records *broker.Bucket
	data    []byte
	upload  protocol.Upload
	told    []protocol.UploadPart
	gets    *atomic.Int64 // bytes of the bodies of answers to GET requests
}

// counted counts what is read of a store.
type counted struct {
	object.Transport

	gets *atomic.Int64
}

func (c counted) Get(url string, headers map[string]string) storage.Source {
	return decorate.Source(c.Transport.Get(url, headers), decorate.Hooks{Body: func(_ context.Context, _ decorate.Op, body io.Reader) io.Reader {
		return countedBody{body, c.gets}
	}})
}

type countedBody struct {
	io.Reader

	gets *atomic.Int64
}

func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.gets.Add(int64(n))
	return n, err
}

// newStagedKit stages data in parts, all of which were told.
func newStagedKit(t *testing.T, dest storage.Destination, data []byte) *stagedKit {
	t.Helper()
	server := miniotest.Shared(t)
	k := &stagedKit{partsKit: newPartsKit(t, nil, dest), data: data, gets: new(atomic.Int64)}
	store, err := object.New(object.Config{
		Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey, Transport: counted{newBench(t).client, k.gets},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	k.store, k.bucket = store, server.NewBucket(t)
	k.staging, err = store.Staging(k.bucket)
	if err != nil {
		t.Fatal(err)
	}
	k.records = bucketFor(t, k.conn, broker.UploadBucket)
	k.upload = protocol.Upload{
		Version: protocol.UploadVersion, ID: "upl_1", Org: k.ref.Org, Sandbox: "a", Kind: protocol.UploadFile, TargetPath: "/out",
		Length: int64(len(data)), PartSize: stagedPart, PartCount: (len(data) + stagedPart - 1) / stagedPart, Bucket: k.bucket, Key: "O/a/upl_1",
		State: protocol.UploadCompleting, Generation: 1, Batch: k.ref.Batch, Created: time.Now().UTC(),
	}
	if k.upload.PartCount > 0 {
		k.upload.Multipart, err = k.place().Begin(t.Context(), storage.PartContent{Size: k.upload.Length, PartSize: stagedPart})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range k.upload.PartCount {
		offset, size := k.upload.Span(n)
		k.told = append(k.told, k.put(t, n, data[offset:offset+size]))
	}
	return k
}

func (k *stagedKit) place() storage.PartDestination {
	return k.staging.Destination(k.upload.Bucket, k.upload.Key).(storage.PartDestination)
}

// put stores a part, and returns what there is to tell of it.
func (k *stagedKit) put(t *testing.T, n int, data []byte) protocol.UploadPart {
	t.Helper()
	offset, _ := k.upload.Span(n)
	stored, err := k.place().PutPart(t.Context(), k.upload.Multipart, storage.Part{Number: n + 1, Offset: offset, Size: int64(len(data)), Body: bytes.NewReader(data)})
	if err != nil {
		t.Fatal(err)
	}
	return protocol.UploadPart{Number: n, Size: stored.Size, ETag: stored.ETag, Checksum: stored.Checksum, Stored: time.Now().UTC()}
}

// assembled puts the parts together, as an earlier attempt may have done.
func (k *stagedKit) assembled(t *testing.T) {
	t.Helper()
	content := storage.PartContent{Size: k.upload.Length, PartSize: stagedPart}
	if _, err := k.place().Complete(t.Context(), k.upload.Multipart, content, asStored(k.told), nil); err != nil {
		t.Fatal(err)
	}
}

// record stores what is known of the session.
func (k *stagedKit) record(t *testing.T) {
	t.Helper()
	store := func(key string, value any) {
		data, err := protocol.Encode(value)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.records.Put(t.Context(), key, data); err != nil {
			t.Fatal(err)
		}
	}
	u := &k.upload
	store(protocol.UploadSessionKey(u.Org, u.Sandbox, u.ID), u)
	store(protocol.UploadPageKey(u.Org, u.Sandbox, u.ID, 0), &protocol.UploadPage{Version: protocol.UploadVersion, Multipart: u.Multipart, Parts: k.told})
}

// publishSession puts the item into the queue that publishes the session to a file, unless change says otherwise.
func (k *stagedKit) publishSession(t *testing.T, change func(*protocol.ManifestItem)) {
	t.Helper()
	k.record(t)
	k.publish(t, func(item *protocol.ManifestItem, _ *protocol.Work) {
		item.Src = protocol.Location{Type: protocol.StagedUpload, Sandbox: k.upload.Sandbox, Upload: k.upload.ID}
		item.Expect.Size = &k.upload.Length
		if change != nil {
			change(item)
		}
	})
}

func hexOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
