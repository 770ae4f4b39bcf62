package aggregator

import (
	"cmp"
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

// fits reports whether a session has such a part: what does not fit came from a front that has another idea of the session. What is lost
// needs no size.
func fits(u *protocol.Upload, p *protocol.UploadPart) bool {
	if p.Number < 0 || p.Number >= u.PartCount {
		return false
	}
	_, size := u.Span(p.Number)
	return p.Lost || p.Size == size
}

// foldUpload puts a word on a part into a page of a session's multipart upload. It is idempotent and does not depend on the order: of the words that
// came on a part the page has the greatest, as [compareWords] has it.
//
// That the same bytes are stored once more is a word like others. Its time has to be kept: of the bytes A stored at 1, B at 2 and A at 3 the
// store has A, also if B is heard of last. What was stored is the same, though, so moved is false of it, as it is of a word that comes again:
// for those who read the session nothing has changed. changed says that the page has to be stored.
func foldUpload(page protocol.UploadPage, multipart string, part *protocol.UploadPart) (_ protocol.UploadPage, changed, moved bool) {
	if page.Multipart != multipart {
		page = protocol.UploadPage{Multipart: multipart}
	}
	page.Version = protocol.UploadVersion
	at, found := slices.BinarySearchFunc(page.Parts, part.Number, func(p protocol.UploadPart, n int) int { return p.Number - n })
	if !found {
		page.Parts = slices.Insert(page.Parts, at, *part)
		return page, true, true
	}
	old := page.Parts[at]
	if compareWords(part, &old) <= 0 {
		return page, false, false
	}
	page.Parts[at] = *part
	return page, true, compareStored(part, &old) != 0
}

// compareWords tells which of two words on a part counts: the one that is about what was stored later. A loss that names what it takes back, by its
// time and ETag, counts more than that, and less than what is stored afterwards. The rest only makes the order the same everywhere.
func compareWords(a, b *protocol.UploadPart) int {
	return cmp.Or(a.Stored.Compare(b.Stored), strings.Compare(a.ETag, b.ETag), compareBools(a.Lost, b.Lost), compareStored(a, b))
}

// compareStored compares what is there of a part. Of what is lost nothing is.
func compareStored(a, b *protocol.UploadPart) int {
	if a.Lost && b.Lost {
		return 0
	}
	return cmp.Or(
		compareBools(a.Lost, b.Lost), strings.Compare(a.ETag, b.ETag), strings.Compare(a.SHA256, b.SHA256), cmp.Compare(a.Size, b.Size),
		strings.Compare(a.Checksum, b.Checksum),
	)
}

// show makes the bits of a page's parts say what the page says. count is how many parts the session has.
func show(progress *protocol.UploadProgress, number int, page *protocol.UploadPage, count int) {
	first := number * protocol.PageSize
	for n := first; n < min(first+protocol.PageSize, count); n++ {
		progress.Set(n, false)
	}
	for i := range page.Parts {
		if p := &page.Parts[i]; protocol.PageOf(p.Number) == number && p.Number < count {
			progress.Set(p.Number, !p.Lost)
		}
	}
}
