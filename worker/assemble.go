package worker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
)

// assemble makes an object of the parts of the session that a transfer publishes, unless an earlier attempt has done so. It costs a request
// and a listing, and moves no byte. What came in one piece is an object already.
func (w *Worker) assemble(ctx context.Context, t *transfer, u *protocol.Upload) error {
	if u.Direct || u.PartCount == 0 {
		return w.lookAtStaged(ctx, t, u)
	}
	to := w.copier.stagingDestination(t)
	parts, parted := to.(storage.PartDestination)
	lister, lists := decorate.Inner(to).(storage.PartLister)
	if !parted || !lists {
		return noStaging(t)
	}
	told, err := w.uploads.parts(ctx, u)
	if err != nil {
		return err
	}
	// The store may have lost an upload between two requests, or got a part once more: then it is looked at again, once.
	for again := false; ; again = true {
		listed, err := lister.ListParts(ctx, u.Multipart)
		gone := isCode(err, storage.CodeUploadGone)
		if err != nil && !gone {
			return ofStaging(t, err)
		}
		if lost := lostParts(u, told, listed, gone); len(lost) > 0 {
			return w.reportLost(ctx, t, u, told, lost)
		}
		_, err = parts.Complete(ctx, u.Multipart, storage.PartContent{Size: u.Length, PartSize: u.PartSize}, asStored(told), nil)
		switch {
		case err == nil:
			failpoint.HitItem(failpoint.SessionAssembled, t.id)
			return nil
		case !isCode(err, storage.CodeUploadGone):
			return ofStaging(t, err)
		case gone:
			return stagingGone(t)
		case again: // it changes all the time; the next attempt may find it at rest
			return ofStaging(t, err)
		}
	}
}

// lookAtStaged checks that content which came in one piece is there.
func (w *Worker) lookAtStaged(ctx context.Context, t *transfer, u *protocol.Upload) error {
	source, ok := w.copier.source(*t).(stater)
	if !ok {
		return nil
	}
	stat, err := source.Stat(ctx)
	switch {
	case err != nil && storage.ClassOf(err) == storage.NotFound, err == nil && stat.Size != storage.UnknownSize && stat.Size != u.Length:
		return stagingGone(t)
	case err != nil:
		return ofStaging(t, err)
	}
	return nil
}

func stagingGone(t *transfer) error {
	err := ofUpload(t, protocol.Corrupt, codeStagingGone, "was staged, and is not there any more, or something else is in its place")
	err.failure.Hint = "Something removes objects or multipart uploads from the staging bucket; upload it again."
	return err
}

// ofStaging is an error of the store that uploads are staged in.
func ofStaging(t *transfer, err error) error { return blame(*t, &sourceError{err}) }

// lostParts are the numbers of the parts, from 0, that the store does not have as they were told. If the multipart upload is gone it has none,
// but may have the object that they were put together to: then the parts that were never told are lost.
func lostParts(u *protocol.Upload, told []protocol.UploadPart, listed []storage.PartStored, gone bool) []int {
	have := make([]storage.PartStored, len(told))
	for _, p := range listed {
		if n := p.Number - 1; n >= 0 && n < len(have) { // the store counts from 1
			have[n] = p
		}
	}
	var lost []int
	for n := range told {
		_, size := u.Span(n)
		known := told[n].ETag != "" && !told[n].Lost && told[n].Size == size
		if !known || !gone && (have[n].ETag != told[n].ETag || have[n].Size != size) {
			lost = append(lost, n)
		}
	}
	return lost
}

func asStored(told []protocol.UploadPart) []storage.PartStored {
	parts := make([]storage.PartStored, len(told))
	for n, p := range told {
		parts[n] = storage.PartStored{Number: n + 1, Size: p.Size, ETag: p.ETag, Checksum: p.Checksum}
	}
	return parts
}

// reportLost has it written down that parts are missing, so that they are asked for again, and returns the item's failure. Parts that are not
// known to be there need no word. It is stored before the failure is: who learns of that finds the parts missing.
func (w *Worker) reportLost(ctx context.Context, t *transfer, u *protocol.Upload, told []protocol.UploadPart, lost []int) error {
	now := time.Now().UTC()
	reports := make([]protocol.UploadReport, 0, protocol.PageSize)
	tell := func() error {
		if len(reports) == 0 {
			return nil
		}
		err := w.conn.PublishUpload(ctx, w.cfg.ID, reports...)
		reports = reports[:0]
		return err
	}
	for _, n := range lost {
		p := told[n]
		if p.Stored.IsZero() || p.Lost {
			continue
		}
		_, size := u.Span(n)
		word := protocol.UploadPart{Number: n, Size: size, Stored: now, Lost: true}
		if after := p.Stored.Add(time.Millisecond); after.After(now) { // the clock of another machine
			word.Stored = after
		}
		reports = append(reports, protocol.UploadReport{Org: u.Org, Sandbox: u.Sandbox, Upload: u.ID, Multipart: u.Multipart, Part: word})
		if len(reports) == protocol.PageSize {
			if err := tell(); err != nil {
				return unconfirmed(err)
			}
		}
	}
	if err := tell(); err != nil {
		return unconfirmed(err)
	}
	failpoint.HitItem(failpoint.SessionPartsLost, t.id)
	err := ofUpload(t, protocol.Corrupt, codePartLost, "lacks %s, which it had: the store does not have what was staged", namedParts(lost))
	err.failure.Hint = "Send these parts again, and complete it once more."
	return err
}

// namedParts names parts in few words.
func namedParts(numbers []int) string {
	const most = 5 // ranges
	var ranges []string
	for i := 0; i < len(numbers); {
		end := i
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}
		if len(ranges) == most {
			return fmt.Sprintf("parts %s and %d more", strings.Join(ranges, ", "), len(numbers)-i)
		}
		if end > i {
			ranges = append(ranges, fmt.Sprintf("%d to %d", numbers[i], numbers[end]))
		} else {
			ranges = append(ranges, strconv.Itoa(numbers[i]))
		}
		i = end + 1
	}
	if len(numbers) == 1 {
		return "part " + ranges[0]
	}
	return "parts " + strings.Join(ranges, ", ")
}
