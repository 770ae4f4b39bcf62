package protocol_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

const secret = "X-Amz-Signature=0123456789abcdef"

func locations() (src, dest protocol.Location) {
	src = protocol.Location{Type: protocol.HTTPGet, URL: "https://user:pw@host/p?" + secret, Headers: map[string]string{"Authorization": secret}}
	dest = protocol.Location{Type: protocol.HTTPPostForm, URL: "https://host/up?" + secret, Form: map[string]string{"policy": secret}, FileField: "file"}
	return src, dest
}

func TestSealOpensForItsItemOnly(t *testing.T) {
	t.Parallel()
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	src, dest := locations()
	ref := protocol.Ref{Org: "ORG", Batch: "bat_1", Index: 7}
	sealed, err := sealer.SealItem(ref, &protocol.ManifestItem{Src: src, Dest: dest})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte(secret)) || bytes.Contains(sealed, []byte("host")) {
		t.Error("the sealed form shows what it seals")
	}
	got, err := sealer.OpenItem(ref, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]protocol.Location{src, dest}, []protocol.Location{got.Src, got.Dest}); diff != "" {
		t.Error(diff)
	}
	again, err := sealer.SealItem(ref, &protocol.ManifestItem{Src: src, Dest: dest})
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealing twice gives the same bytes (%v)", err)
	}
	for _, other := range []protocol.Ref{{Org: "ORG2", Batch: "bat_1", Index: 7}, {Org: "ORG", Batch: "bat_2", Index: 7}, {Org: "ORG", Batch: "bat_1", Index: 8}, {}} {
		if _, err := sealer.OpenItem(other, sealed); !errors.Is(err, protocol.ErrSeal) {
			t.Errorf("it opens for %+v: %v", other, err)
		}
	}
	for i := range sealed {
		bent := bytes.Clone(sealed)
		bent[i] ^= 1
		if _, err := sealer.OpenItem(ref, bent); !errors.Is(err, protocol.ErrSeal) {
			t.Fatalf("it opens with byte %d bent: %v", i, err)
		}
	}
	stranger, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.OpenItem(ref, sealed); !errors.Is(err, protocol.ErrSeal) || stranger.ID() == sealer.ID() {
		t.Errorf("another key opens it: %v", err)
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := protocol.NewSealer(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes is taken", n)
		}
	}
}

func TestLocationsShowNoSecret(t *testing.T) {
	t.Parallel()
	src, dest := locations()
	for _, l := range []protocol.Location{src, dest} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if text := fmt.Sprintf(format, l); strings.Contains(text, secret) || strings.Contains(text, "pw") {
				t.Errorf("%s shows %s", format, text)
			}
		}
	}
	for raw, want := range map[string]string{
		"https://u:p@h:1/a%20b?q=1#f": "https://h:1/a%20b",
		"::":                          "(invalid URL)", "": "(invalid URL)", "/x?secret": "(invalid URL)",
	} {
		if got := protocol.RedactURL(raw); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestSealedPageOpensForItsPlaceOnly(t *testing.T) {
	t.Parallel()
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	src, dest := locations()
	size := int64(0)
	items := make([]protocol.ManifestItem, protocol.PageSize)
	for i := range items {
		items[i] = protocol.ManifestItem{ID: fmt.Sprint(i), Src: src, Dest: dest, Expect: protocol.Expect{Size: &size, SHA256: "ab"}}
	}
	sealed, err := sealer.SealPage("ORG", "bat_1", 3, items)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte(secret)) || len(sealed) > 16<<10 {
		t.Errorf("a page of like items takes %d bytes, or shows what it seals", len(sealed))
	}
	got, err := sealer.OpenPage("ORG", "bat_1", 3, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(items, got); diff != "" {
		t.Error(diff)
	}
	open := func(org protocol.OrgID, batch protocol.BatchID, page int) error {
		_, err := sealer.OpenPage(org, batch, page, sealed)
		return err
	}
	for _, err := range []error{open("ORG2", "bat_1", 3), open("ORG", "bat_2", 3), open("ORG", "bat_1", 4)} {
		if !errors.Is(err, protocol.ErrSeal) {
			t.Errorf("it opens elsewhere: %v", err)
		}
	}
}
