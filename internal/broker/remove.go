package broker

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DeleteAt removes a key that still has the revision, else it returns [ErrConflict]. Those who watch are told by a marker, whose
// revision is returned; [Bucket.DropAt] removes that, too.
func (b *Bucket) DeleteAt(ctx context.Context, key string, revision uint64) (uint64, error) {
	msg := nats.NewMsg(b.subject(key))
	msg.Header.Set(headerOperation, "PURGE")
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	marker, err := b.conn.request(ctx, msg)
	return marker, b.wrap("delete", key, err)
}

// DeleteFading is DeleteAt with a marker that the server removes after fadeAfter. By then all who watch have been told, or watch anew.
func (b *Bucket) DeleteFading(ctx context.Context, key string, revision uint64) (uint64, error) {
	msg := nats.NewMsg(b.subject(key))
	msg.Header.Set(headerOperation, "PURGE")
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	msg.Header.Set(jetstream.MsgTTLHeader, fadeAfter.String())
	marker, err := b.conn.request(ctx, msg)
	return marker, b.wrap("delete", key, err)
}

const fadeAfter = time.Minute

// DropAt removes what a key held up to a revision, and leaves alone what was written later.
func (b *Bucket) DropAt(ctx context.Context, key string, revision uint64) error {
	err := b.stream.Purge(ctx, jetstream.WithPurgeSubject(b.subject(key)), jetstream.WithPurgeSequence(revision+1))
	if err != nil {
		return b.wrap("remove", key, classify(err))
	}
	return nil
}

// markerTTL is how long a marker of [Bucket.DropTogether] stays if its writer dies.
const markerTTL = 10 * time.Second

// DropTogether removes keys that still have their revisions, all at once or none: then it returns [ErrConflict]. No marker stays.
func (b *Bucket) DropTogether(ctx context.Context, entries ...Entry) error {
	writes := make([]write, len(entries))
	for i, e := range entries {
		writes[i] = write{subject: b.subject(e.Key), expect: &entries[i].Revision, marker: true}
	}
	last, err := b.conn.publishAtomic(ctx, writes)
	if err != nil {
		return b.wrap("remove", entries[0].Key+" and others", err)
	}
	for _, e := range entries {
		if err := b.DropAt(ctx, e.Key, last); err != nil {
			return err
		}
	}
	return nil
}

// Keys lists the keys that match a filter, those of markers among them. It is for few.
func (b *Bucket) Keys(ctx context.Context, filter string) ([]string, error) {
	info, err := b.stream.Info(ctx, jetstream.WithSubjectFilter(b.subject(filter)))
	if err != nil {
		return nil, b.wrap("list", filter, classify(err))
	}
	keys := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, bucketPrefix(b.name)))
	}
	return keys, nil
}

// Count is the number of keys that match a filter, those of markers among them.
func (b *Bucket) Count(ctx context.Context, filter string) (int, error) {
	keys, err := b.Keys(ctx, filter)
	return len(keys), err
}
