package protocol

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// ManifestItem is one copy as the caller asked for it, as it stands in the manifest of its batch.
type ManifestItem struct {
	ID     string   `json:"id,omitempty"` // the caller's; "" if none was given
	Src    Location `json:"src"`
	Dest   Location `json:"dest"`
	Expect          // what the caller says the source is

	Conflict ConflictPolicy `json:"conflict,omitempty"`
	Digest   Digest         `json:"digest,omitempty"`

	// Trail are the rules that lead to this copy, "ORG/rule", the first one first; nil: no event asked for it. An object that is written
	// carries it as [TrailHeader].
	Trail []string `json:"trail,omitempty"`
}

// Expect is what a caller promises about the bytes of a source. What is given is compared.
type Expect struct {
	Size   *int64 `json:"size,omitempty"`   // bytes; nil: not given
	SHA256 string `json:"sha256,omitempty"` // lowercase hex; "": not given
	MD5    string `json:"md5,omitempty"`    // lowercase hex; "": not given
}

// Given reports whether anything is promised.
func (e Expect) Given() bool { return e.Size != nil || e.SHA256 != "" || e.MD5 != "" }

// maxPage bounds a manifest page after decompression, in bytes: a page whose items are as large as they may be.
const maxPage = 64 << 20

// writers keeps compressors: one takes more than half a MiB.
var writers = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // fails for unknown levels only
	return w
}}

// SealPage compresses the items of a page (at most [PageSize]) and encrypts them. Whose page it is, and which, is
// authenticated with it.
func (s *Sealer) SealPage(org OrgID, batch BatchID, page int, items []ManifestItem) ([]byte, error) {
	var packed bytes.Buffer
	w, _ := writers.Get().(*flate.Writer)
	defer writers.Put(w)
	w.Reset(&packed)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // an escape in each URL with a query makes reading slow
	if err := enc.Encode(items); err != nil {
		return nil, fmt.Errorf("seal page %d of %s: %w", page, batch, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal page %d of %s: %w", page, batch, err)
	}
	return s.aead.Seal(nil, nil, packed.Bytes(), pageName(org, batch, page)), nil
}

// OpenPage returns the items of a sealed page. The error is [ErrSeal] and nothing of the content.
func (s *Sealer) OpenPage(org OrgID, batch BatchID, page int, sealed []byte) ([]ManifestItem, error) {
	packed, err := s.aead.Open(nil, nil, sealed, pageName(org, batch, page))
	if err != nil {
		return nil, fmt.Errorf("page %d of %s: %w", page, batch, ErrSeal)
	}
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxPage))
	if err != nil {
		return nil, fmt.Errorf("page %d of %s: %w", page, batch, ErrSeal)
	}
	items, err := decodeItems(plain)
	if err != nil || len(items) > PageSize {
		return nil, fmt.Errorf("page %d of %s: %w", page, batch, ErrSeal)
	}
	return items, nil
}

func pageName(org OrgID, batch BatchID, page int) []byte {
	return append([]byte("page\x00"), additional(Ref{Org: org, Batch: batch, Index: page})...)
}
