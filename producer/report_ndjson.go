package producer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

// rowView is an item as a report shows it: a line of a manifest, with the receipt beside it.
type rowView struct {
	ID   string       `json:"id,omitempty"`
	Src  locationView `json:"src"`
	Dest locationView `json:"dest"`
	protocol.Expect

	Receipt receiptView `json:"receipt"`
}

// locationView is a [protocol.Location] with a form where the type has one, though it be empty: the intake asks for it.
type locationView struct {
	Type      protocol.LocationType `json:"type"`
	Sandbox   protocol.SandboxID    `json:"sandbox,omitempty"`
	Path      string                `json:"path,omitempty"`
	URL       string                `json:"url,omitempty"`
	Headers   map[string]string     `json:"headers,omitempty"`
	Form      map[string]string     `json:"form,omitzero"`
	FileField string                `json:"fileField,omitempty"`
	Bucket    string                `json:"bucket,omitempty"`
	Key       string                `json:"key,omitempty"`
}

// receiptView is a receipt and whether anything of its item is not shown, so that it would not run again as it stands.
type receiptView struct {
	protocol.Receipt

	Redacted bool `json:"redacted,omitempty"`
}

// viewOf shows a row, with its credentials or without.
func viewOf(r *row, secrets bool) rowView {
	v := rowView{ID: r.item.ID, Expect: r.item.Expect, Receipt: receiptView{Receipt: r.receipt}}
	src, srcCut := shownLocation(r.item.Src, secrets)
	dest, destCut := shownLocation(r.item.Dest, secrets)
	v.Src, v.Dest = locationView(src), locationView(dest)
	v.Receipt.Redacted = srcCut.any() || destCut.any()
	return v
}

// cut is what is not shown of a location.
type cut struct{ query, headers, form bool }

func (c cut) any() bool { return c.query || c.headers || c.form }

// shownLocation returns a location as it may be shown. Without secrets it has no query, no userinfo, no headers and no form fields.
func shownLocation(loc protocol.Location, secrets bool) (protocol.Location, cut) {
	var c cut
	if loc.Type == protocol.HTTPPostForm && loc.Form == nil {
		loc.Form = map[string]string{}
	}
	if secrets || loc.URL == "" {
		return loc, c
	}
	if bare := bareURL(loc.URL); bare != loc.URL {
		loc.URL, c.query = bare, true
	}
	if len(loc.Headers) > 0 {
		loc.Headers, c.headers = nil, true
	}
	if len(loc.Form) > 0 {
		loc.Form, c.form = map[string]string{}, true
	}
	return loc, c
}

// bareURL returns a URL without query, fragment and userinfo. What it keeps stays as it is: it is to run again.
func bareURL(url string) string {
	bare, _, _ := strings.Cut(url, "?")
	bare, _, _ = strings.Cut(bare, "#")
	if strings.Contains(bare, "@") { // perhaps in the path only
		return protocol.RedactURL(bare)
	}
	return bare
}

// ndjson renders rows as lines of JSON.
func ndjson(rows []row, secrets bool) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(len(rows) * 768)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range rows {
		if err := enc.Encode(viewOf(&rows[i], secrets)); err != nil {
			return nil, fmt.Errorf("render item %d: %w", rows[i].receipt.Index, err)
		}
	}
	return b.Bytes(), nil
}
