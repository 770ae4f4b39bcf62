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
	lineView

	Receipt receiptView `json:"receipt"`
}

// lineView is a line of a manifest.
type lineView struct {
	ID   string       `json:"id,omitempty"`
	Src  locationView `json:"src"`
	Dest locationView `json:"dest"`
	protocol.Expect

	Conflict protocol.ConflictPolicy `json:"conflict,omitempty"`
	Digest   protocol.Digest         `json:"digest,omitempty"`
}

// locationView is a [protocol.Location] with a form where the type has one, though it be empty: the intake asks for it.
type locationView struct {
	Type      protocol.LocationType `json:"type"`
	Sandbox   protocol.SandboxID    `json:"sandbox,omitempty"`
	Path      string                `json:"path,omitempty"`
	Upload    protocol.UploadID     `json:"upload,omitempty"`
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
	line, redacted := lineOf(r, secrets)
	return rowView{line, receiptView{Receipt: r.receipt, Redacted: redacted}}
}

// lineOf shows what was asked for, and tells whether anything of it is left out.
func lineOf(r *row, secrets bool) (line lineView, redacted bool) {
	src, srcCut := shownLocation(r.item.Src, secrets)
	dest, destCut := shownLocation(r.item.Dest, secrets)
	return lineView{r.item.ID, locationView(src), locationView(dest), r.item.Expect, r.item.Conflict, r.item.Digest}, srcCut.any() || destCut.any()
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

// ndjson renders rows as lines of JSON: each a [rowView]. The receipt, the larger part, is put in by the encoder that is made for it.
func ndjson(rows []row, secrets bool) ([]byte, error) {
	out := make([]byte, 0, len(rows)*768)
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	for i := range rows {
		line.Reset()
		view, redacted := lineOf(&rows[i], secrets)
		if err := enc.Encode(view); err != nil {
			return nil, fmt.Errorf("render item %d: %w", rows[i].receipt.Index, err)
		}
		out = append(out, bytes.TrimSuffix(line.Bytes(), []byte("}\n"))...)
		out = append(out, `,"receipt":`...)
		var err error
		if out, err = protocol.AppendReceipt(out, &rows[i].receipt); err != nil {
			return nil, fmt.Errorf("render item %d: %w", rows[i].receipt.Index, err)
		}
		if redacted {
			out = append(bytes.TrimSuffix(out, []byte("}")), `,"redacted":true}`...)
		}
		out = append(out, "}\n"...)
	}
	return out, nil
}
