package object

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// probe is what is known of the way a store compares checksums.
type probe struct {
	turn chan struct{} // holds one value, taken by who looks
	*state
}

type state struct{ known, compares bool } // owned by who has the turn

func newProbe() probe {
	p := probe{make(chan struct{}, 1), &state{}}
	p.turn <- struct{}{}
	return p
}

// compares reports whether the store takes a checksum behind the content and refuses what differs from it. A store that does not know
// of that might store the frames around the content with it, so it is asked once: by a part with a wrong checksum, which it must
// refuse, and one with the right one, in an upload that is removed. Nothing becomes visible.
func (o *destination) compares(ctx context.Context) (bool, error) {
	p := o.store.probed
	select {
	case <-p.turn:
	case <-ctx.Done():
		return false, classify("write", o.subject(), ctx.Err())
	}
	defer func() { p.turn <- struct{}{} }()
	if p.known {
		return p.compares, nil
	}
	compares, err := o.ask(ctx)
	switch e, _ := errors.AsType[*storage.Error](err); {
	case err == nil:
		p.known, p.compares = true, compares
		return compares, nil
	case e != nil && (e.Status == http.StatusNotImplemented || e.Status == http.StatusMethodNotAllowed):
		p.known = true // it told that it does not
		return false, nil
	case e != nil && e.Status >= 400 && e.Status < 500:
		return false, nil // a missing bucket or permission, or a key that it does not take, which what follows will tell
	}
	return false, err
}

// ask asks the store. An error is one of the store's answers.
func (o *destination) ask(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, err := o.store.core.NewMultipartUpload(ctx, o.bucket, o.key, minio.PutObjectOptions{UserMetadata: withChecksums()})
	if err != nil {
		return false, o.askPlain(ctx, classify("write", o.subject(), err))
	}
	defer func() { _ = o.Abort(context.WithoutCancel(ctx), plainUpload+id) }() // what is left of it costs nothing, and the store removes it
	_, err = o.askWith(ctx, id, func(string) string { return strings.Repeat("A", sumLength-1) + "=" })
	compares := false
	if e, ok := errors.AsType[*storage.Error](err); ok && isMismatch(e) {
		compares, err = o.askWith(ctx, id, nil)
	}
	return compares, o.askPlain(ctx, err)
}

// askPlain is nil if a store that refused with 400 what has a checksum takes the same without one. If not, it is the key that it does not
// take, and nothing is known of the store.
func (o *destination) askPlain(ctx context.Context, refusal error) error {
	if e, ok := errors.AsType[*storage.Error](refusal); !ok || e.Status != http.StatusBadRequest {
		return refusal
	}
	id, err := o.store.core.NewMultipartUpload(ctx, o.bucket, o.key, minio.PutObjectOptions{})
	if err != nil {
		return refusal
	}
	defer func() { _ = o.Abort(context.WithoutCancel(ctx), plainUpload+id) }() // as above
	part := storage.Content{Body: strings.NewReader(probeContent), Size: int64(len(probeContent))}
	if _, err := o.sendPlain(ctx, upload{query: partQuery(id, 1)}, part); err != nil {
		return refusal
	}
	return nil
}

const probeContent = "copyfleet"

// askWith sends a part with a checksum that change makes of the right one. It reports whether the store told it back.
func (o *destination) askWith(ctx context.Context, id string, change func(string) string) (bool, error) {
	const content = probeContent
	frames := newFramed(strings.NewReader(content), int64(len(content)), o.subject())
	frames.change = change
	target, headers := o.framed(upload{query: partQuery(id, 1)}, int64(len(content)))
	stored, err := o.store.cfg.Transport.Put(target, headers).Put(ctx, storage.Content{Body: frames, Size: framedLength(int64(len(content)))})
	return stored.Checksum == checksumName+frames.sum.encoded(), err
}

// withChecksums makes an upload in parts, or a copy, one of which the store knows the checksum of the whole.
func withChecksums() map[string]string {
	return map[string]string{"X-Amz-Checksum-Algorithm": "CRC64NVME", "X-Amz-Checksum-Type": "FULL_OBJECT"}
}

func partQuery(id string, number int) url.Values {
	return url.Values{"partNumber": {strconv.Itoa(number)}, "uploadId": {id}}
}
