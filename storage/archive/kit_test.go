package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
)

var limits = storage.TreeLimits{Entries: 1000, Depth: 8, Bytes: 1 << 20}

// file is an entry of the archives of these tests. content is that of a file.
type file struct {
	header  tar.Header
	content string
}

func regular(name, content string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content}
}

func dir(name string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func symlink(name, target string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, ""}
}

func link(name, target string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644}, ""}
}

func special(name string, flag byte) file {
	return file{tar.Header{Name: name, Typeflag: flag, Mode: 0o644}, ""}
}

// pack makes a tar with the writer of the standard library.
func pack(t testing.TB, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&f.header); err != nil {
			t.Fatalf("%q: %v", f.header.Name, err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// block is a header of ustar that no writer would make: each field as it is given, with a checksum that is right.
func block(name string, flag byte, size, linkname string) []byte {
	b := make([]byte, 512)
	copy(b[0:100], name)
	copy(b[100:108], "0000644\x00")
	copy(b[108:116], "0000000\x00")
	copy(b[116:124], "0000000\x00")
	copy(b[124:136], size)
	copy(b[136:148], "00000000000\x00")
	b[156] = flag
	copy(b[157:257], linkname)
	copy(b[257:265], "ustar\x0000")
	return sum(b)
}

// sum sets the checksum of a header.
func sum(b []byte) []byte {
	copy(b[148:156], "        ")
	total := 0
	for _, c := range b {
		total += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", total))
	return b
}

const zeroSize = "00000000000\x00"

func octal(n int) string { return fmt.Sprintf("%011o\x00", n) }

// padded is content in whole blocks.
func padded(content string) []byte {
	return append([]byte(content), make([]byte, -len(content)&511)...)
}

// pax is an extended header, for one entry ('x') or for all ('g').
func pax(flag byte, records ...string) []byte {
	var text strings.Builder
	for i := 0; i < len(records); i += 2 {
		rest := fmt.Sprintf(" %s=%s\n", records[i], records[i+1])
		n := len(rest)
		for n != len(rest)+len(fmt.Sprint(n)) {
			n = len(rest) + len(fmt.Sprint(n))
		}
		fmt.Fprintf(&text, "%d%s", n, rest)
	}
	return append(block("pax", flag, octal(text.Len()), ""), padded(text.String())...)
}

// long is a header of GNU tar with a long name ('L') or target ('K').
func long(flag byte, name string) []byte {
	return append(block("././@LongLink", flag, octal(len(name)+1), ""), padded(name+"\x00")...)
}

var end = make([]byte, 1024)

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// walk lists what is in an archive, a line for each entry.
func walk(body io.Reader, limits storage.TreeLimits) ([]string, error) {
	var seen []string
	err := archive.Walk(body, limits, func(e archive.Entry) error {
		line := fmt.Sprintf("%s %d %s", e.Path, e.Kind, e.Mode)
		if e.Implied {
			line += " implied"
		}
		if e.Target != "" {
			line += " -> " + e.Target
		}
		if e.Body != nil {
			content, err := io.ReadAll(e.Body)
			if err != nil {
				return err
			}
			if int64(len(content)) != e.Size {
				return fmt.Errorf("%s has %d bytes, not %d", e.Path, len(content), e.Size)
			}
			line += fmt.Sprintf(" %q", content)
		}
		seen = append(seen, line)
		return nil
	})
	return seen, err
}

// expectCode reports an error that is not of the class and code.
func expectCode(t *testing.T, err error, class storage.Class, code string) {
	t.Helper()
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || e.Class != class || e.Code != code {
		t.Errorf("error %v, want class %d, code %s", err, class, code)
	}
}
