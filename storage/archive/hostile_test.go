package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
)

// hostile are archives that are refused, and the code of why.
func hostile(t testing.TB) map[string]struct {
	body []byte
	code string
} {
	raw := func(name string) []byte { return join(block(name, tar.TypeReg, zeroSize, ""), end) }
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(pack(t, regular("f", "x")))
	_ = z.Close()
	n256, n2000 := strings.Repeat("n", 256), strings.Repeat("a/", 2100)+"f"
	return map[string]struct {
		body []byte
		code string
	}{
		"DotDot":            {pack(t, regular("../f", "x")), archive.CodePathInvalid},
		"DotDotInside":      {pack(t, regular("a/../f", "x")), archive.CodePathInvalid},
		"DotDotDeep":        {pack(t, regular("a/b/../../../f", "x")), archive.CodePathInvalid},
		"DotDotAlone":       {pack(t, dir("..")), archive.CodePathInvalid},
		"DotDotDirectory":   {pack(t, dir("../")), archive.CodePathInvalid},
		"DotThenDotDot":     {pack(t, regular("./../f", "x")), archive.CodePathInvalid},
		"Absolute":          {pack(t, regular("/etc/passwd", "x")), archive.CodePathInvalid},
		"AbsoluteDirectory": {pack(t, dir("/")), archive.CodePathInvalid},
		"AbsoluteBehindDot": {pack(t, regular(".//etc/passwd", "x")), archive.CodePathInvalid},
		"Empty":             {raw(""), archive.CodePathInvalid},
		"Dot":               {raw("."), archive.CodePathInvalid},
		"DotSlashFile":      {raw("./"), archive.CodePathInvalid},
		"SlashAtFile":       {raw("f/"), archive.CodePathInvalid},
		"DoubleSlash":       {raw("a//f"), archive.CodePathInvalid},
		"DotInside":         {raw("a/./f"), archive.CodePathInvalid},
		"Newline":           {raw("a\nb"), archive.CodePathInvalid},
		"Escape":            {raw("a\x1b[2Jb"), archive.CodePathInvalid},
		"C1Control":         {pack(t, regular("a\u0085b", "x")), archive.CodePathInvalid},
		"NotUTF8":           {raw("a\xffb"), archive.CodePathInvalid},
		"OverlongDotDot":    {raw("\xc0\xae\xc0\xae/f"), archive.CodePathInvalid},
		"NulInPAX":          {join(pax('x', "path", "a\x00b"), raw("f")), archive.CodeMalformed},
		"PAXPath":           {join(pax('x', "path", "../../f"), raw("f")), archive.CodePathInvalid},
		"PAXAbsolute":       {join(pax('x', "path", "/f"), raw("f")), archive.CodePathInvalid},
		"PAXLinkpath":       {join(pax('x', "linkpath", "../../f"), block("l", tar.TypeSymlink, zeroSize, "f"), end), archive.CodeLinkEscapes},
		"GNULongName":       {join(long('L', "../f"), raw("f")), archive.CodePathInvalid},
		"GNULongTarget":     {join(long('K', "/etc"), block("l", tar.TypeSymlink, zeroSize, "f"), end), archive.CodeLinkEscapes},
		"GlobalPath":        {join(pax('g', "path", "../f"), raw("f")), archive.CodeMalformed},
		"GlobalSize":        {join(pax('g', "size", "1"), raw("f")), archive.CodeMalformed},
		"GlobalLinkpath":    {join(pax('g', "linkpath", "/"), raw("f")), archive.CodeMalformed},
		"NameTooLong":       {pack(t, regular(n256, "x")), archive.CodePathTooLong},
		"PathTooLong":       {pack(t, regular(n2000, "x")), archive.CodePathTooLong},
		"TooDeep":           {pack(t, regular("1/2/3/4/5/6/7/8/9", "x")), archive.CodeTooDeep},

		"LinkAbsolute":      {pack(t, symlink("l", "/etc/passwd")), archive.CodeLinkEscapes},
		"LinkDotDot":        {pack(t, symlink("l", "../x")), archive.CodeLinkEscapes},
		"LinkDotDotDeep":    {pack(t, symlink("a/b/l", "../../../x")), archive.CodeLinkEscapes},
		"LinkDotDotLater":   {pack(t, symlink("a/l", "../x/../../y")), archive.CodeLinkEscapes},
		"LinkThroughLink":   {pack(t, dir("1/2/3"), symlink("1/2/3/top", "../../.."), symlink("out", "1/2/3/top/../x")), archive.CodeLinkEscapes},
		"LinkEmpty":         {join(block("l", tar.TypeSymlink, zeroSize, ""), end), archive.CodeLinkEscapes},
		"LinkControl":       {join(block("l", tar.TypeSymlink, zeroSize, "a\nb"), end), archive.CodePathInvalid},
		"LinkTooLong":       {pack(t, symlink("l", strings.Repeat("x/", 2048))), archive.CodePathTooLong},
		"FileThroughLink":   {pack(t, symlink("l", "d"), regular("l/f", "x")), archive.CodeBlocked},
		"DirThroughLink":    {pack(t, dir("d"), symlink("l", "d"), dir("l/e")), archive.CodeBlocked},
		"FileOverLink":      {pack(t, symlink("l", "d"), regular("l", "x")), archive.CodeDuplicate},
		"LinkOverFile":      {pack(t, regular("l", "x"), symlink("l", "d")), archive.CodeDuplicate},
		"LinkOverDir":       {pack(t, dir("l"), symlink("l", "d")), archive.CodeDuplicate},
		"DirOverLink":       {pack(t, symlink("l", "d"), dir("l")), archive.CodeDuplicate},
		"Duplicate":         {pack(t, regular("f", "x"), regular("f", "y")), archive.CodeDuplicate},
		"DuplicateSpelled":  {pack(t, regular("a/f", "x"), regular("./a/f", "y")), archive.CodeDuplicate},
		"FileOverDir":       {pack(t, regular("a/f", "x"), regular("a", "y")), archive.CodeDuplicate},
		"FileBelowFile":     {pack(t, regular("a", "x"), regular("a/f", "y")), archive.CodeBlocked},
		"FileBelowHardLink": {pack(t, regular("a", "x"), link("b", "a"), regular("b/f", "y")), archive.CodeBlocked},

		"HardLinkOutside":  {pack(t, link("l", "../f")), archive.CodeHardLink},
		"HardLinkAbsolute": {pack(t, link("l", "/etc/passwd")), archive.CodeHardLink},
		"HardLinkLater":    {pack(t, link("l", "f"), regular("f", "x")), archive.CodeHardLink},
		"HardLinkItself":   {pack(t, link("l", "l")), archive.CodeHardLink},
		"HardLinkSymlink":  {pack(t, symlink("s", "f"), link("l", "s")), archive.CodeHardLink},
		"HardLinkDir":      {pack(t, dir("d"), link("l", "d")), archive.CodeHardLink},
		"HardLinkThrough":  {pack(t, regular("d/f", "x"), symlink("s", "d"), link("l", "s/f")), archive.CodeHardLink},

		"CharDevice":   {pack(t, special("d", tar.TypeChar)), archive.CodeKind},
		"BlockDevice":  {pack(t, special("d", tar.TypeBlock)), archive.CodeKind},
		"FIFO":         {pack(t, special("d", tar.TypeFifo)), archive.CodeKind},
		"Contiguous":   {join(block("f", tar.TypeCont, zeroSize, ""), end), archive.CodeKind},
		"UnknownKind":  {join(block("f", 'Z', zeroSize, ""), end), archive.CodeKind},
		"Multivolume":  {join(block("f", 'M', zeroSize, ""), end), archive.CodeKind},
		"SparsePAX01":  {join(pax('x', "GNU.sparse.numblocks", "0", "GNU.sparse.size", "9", "GNU.sparse.map", ""), raw("f")), archive.CodeKind},
		"SparsePAXOdd": {join(pax('x', "GNU.sparse.major", "7"), raw("f")), archive.CodeKind},
		"SparseOld":    {join(sparse(), end), archive.CodeKind},
		"SparsePAX10": {
			join(pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "1099511627776", "GNU.sparse.name", "../f"),
				block("f", tar.TypeReg, octal(512), ""), padded("0\n"), end), archive.CodeKind,
		},

		"HugeSize":         {join(block("f", tar.TypeReg, "77777777777\x00", ""), end), archive.CodeTooLarge},
		"HugeBinarySize":   {join(block("f", tar.TypeReg, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", ""), end), archive.CodeTooLarge},
		"NegativeSize":     {join(block("f", tar.TypeReg, strings.Repeat("\xff", 12), ""), end), archive.CodeMalformed},
		"OverflowingSize":  {join(block("f", tar.TypeReg, "\x80\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", ""), end), archive.CodeMalformed},
		"PAXNegativeSize":  {join(pax('x', "size", "-1"), raw("f")), archive.CodeMalformed},
		"PAXHugeSize":      {join(pax('x', "size", "9223372036854775807"), raw("f")), archive.CodeTooLarge},
		"SizeMismatch":     {join(block("f", tar.TypeReg, octal(600), ""), padded("x"), end[:500]), archive.CodeTruncated},
		"SizeMismatchMore": {join(block("f", tar.TypeReg, octal(1), ""), padded("x"), padded("y"), end), archive.CodeMalformed},
		"SizeOfDirectory":  {join(block("d/", tar.TypeDir, octal(512), ""), raw("f")), archive.CodeMalformed},
		"SizeOfLink":       {join(block("l", tar.TypeSymlink, octal(512), "f"), raw("f")), archive.CodeMalformed},
		"ManyBytes":        {pack(t, regular("f", strings.Repeat("x", 1<<19)), regular("g", strings.Repeat("x", 1<<19+1))), archive.CodeTooLarge},

		"PAXHuge":        {join(pax('x', "comment", strings.Repeat("c", maxHeader)), raw("f")), archive.CodeHeaderTooLarge},
		"PAXGigantic":    {join(block("pax", 'x', octal(1<<30), ""), []byte("1073741824 comment="), make([]byte, 2<<20)), archive.CodeHeaderTooLarge},
		"LongNameHuge":   {join(long('L', strings.Repeat("n", maxHeader)), raw("f")), archive.CodeHeaderTooLarge},
		"HeadersEndless": {join(bytes.Repeat(pax('x', "comment", "c"), 100), raw("f")), archive.CodeHeaderTooLarge},

		"NoEnd":           {block("f", tar.TypeReg, zeroSize, ""), archive.CodeTruncated},
		"HalfEnd":         {join(block("f", tar.TypeReg, zeroSize, ""), end[:512]), archive.CodeTruncated},
		"HeaderWithout":   {join(pax('x', "comment", "c"), end), archive.CodeTruncated},
		"LongNameWithout": {join(long('L', strings.Repeat("\x00", 1023))), archive.CodeTruncated},
		"Nothing":         {nil, archive.CodeTruncated},
		"EndInTheMiddle":  {join(raw("f"), raw("g")), archive.CodeTrailingData},
		"Garbage":         {join(raw("f"), []byte("garbage")), archive.CodeTrailingData},
		"GarbageLater":    {join(raw("f"), make([]byte, 1<<20), []byte("x")), archive.CodeTrailingData},
		"ZerosEndless":    {join(raw("f"), make([]byte, 17<<20)), archive.CodeTrailingData},
		"ZeroBlock":       {join(end[:512], raw("f")), archive.CodeMalformed},
		"Gzip":            {zipped.Bytes(), archive.CodeCompressed},
		"Zip":             {[]byte("PK\x03\x04 and so on"), archive.CodeCompressed},
		"Zstandard":       {[]byte("\x28\xb5\x2f\xfd and so on"), archive.CodeCompressed},
		"Xz":              {[]byte("\xfd7zXZ\x00 and so on"), archive.CodeCompressed},
		"Text":            {bytes.Repeat([]byte("no archive at all\n"), 100), archive.CodeMalformed},
		"ChecksumWrong":   {bytes.Replace(raw("f"), []byte("ustar\x0000"), []byte("ustar\x0001"), 1), archive.CodeMalformed},
	}
}

const maxHeader = 64 << 10

// sparse is an entry of the old sparse format of GNU tar that says to be larger than it is.
func sparse() []byte {
	b := block("f", tar.TypeGNUSparse, zeroSize, "")
	copy(b[257:265], "ustar  \x00")
	copy(b[483:495], "00000001000\x00")
	return sum(b)
}

func TestHostileArchives(t *testing.T) {
	for name, c := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			_, err := walk(bytes.NewReader(c.body), limits)
			class := storage.Invalid
			if c.code == archive.CodeTruncated {
				class = storage.Corrupt
			}
			expectCode(t, err, class, c.code)
			if err != nil && (len(err.Error()) > 1200 || strings.ContainsAny(err.Error(), "\n\x1b\x00")) {
				t.Errorf("the error is %q", err)
			}
		})
	}
}

// TestAllowedEdges are what is at the edge of a rule and inside.
func TestAllowedEdges(t *testing.T) {
	for name, body := range map[string][]byte{
		"Depth":        pack(t, regular("1/2/3/4/5/6/7/8", "x")),
		"Bytes":        pack(t, regular("f", strings.Repeat("x", 1<<20))),
		"BZhName":      pack(t, regular("BZhang", "x")),
		"GitArchive":   join(pax('g', "comment", "0123456789abcdef"), block("f", tar.TypeReg, zeroSize, ""), end),
		"OldFile":      join(block("f", tar.TypeRegA, zeroSize, ""), end),  //nolint:staticcheck // what old programs write
		"OldDirectory": join(block("d/", tar.TypeRegA, zeroSize, ""), end), //nolint:staticcheck // what old programs write
		"DotDotName":   pack(t, regular("..f/...", "x")),
		"LinkToTop":    pack(t, symlink("a/b/l", "../..")),
		"LinkToItself": pack(t, symlink("l", "l")),
		"Attributes":   join(pax('x', "SCHILY.xattr.user.a", strings.Repeat("v", 60<<10)), block("f", tar.TypeReg, zeroSize, ""), end),
	} {
		if got, err := walk(bytes.NewReader(body), limits); err != nil || len(got) == 0 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// bomb is an archive that is made while it is read: each part once, then the next.
type bomb struct {
	next func(i int) []byte
	i    int
	rest []byte
}

func (b *bomb) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.rest = b.next(b.i); b.rest == nil {
			return 0, io.EOF
		}
		b.i++
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// number is a name with i in it, deep below directories of its own.
func number(i, depth int) string {
	name := "x" + strings.Repeat("0", 12) + "/"
	digits := []byte(name)
	for at := len(digits) - 2; i > 0; at-- {
		digits[at] = byte('0' + i%10)
		i /= 10
	}
	return strings.Repeat(string(digits), depth) + "f"
}

// TestManyEntries counts the entries, and the directories that these imply, without keeping their names.
func TestManyEntries(t *testing.T) {
	for name, c := range map[string]struct{ depth, entries, want int }{
		"Files":       {0, 1_000_000, 200_000},
		"Directories": {15, 1_000_000, 200_000 / 16},
	} {
		t.Run(name, func(t *testing.T) {
			visited, files := 0, 0
			body := &bomb{next: func(i int) []byte {
				if c.depth == 0 {
					return block("f"+number(i, 1)[1:13], tar.TypeReg, zeroSize, "")
				}
				return join(long('L', number(i, c.depth)), block("f", tar.TypeReg, zeroSize, ""))
			}}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			names := 0
			err := archive.Walk(body, storage.TreeLimits{Entries: 200_000, Depth: 64, Bytes: 1}, func(e archive.Entry) error {
				if visited++; visited == 200_000 {
					runtime.GC()
					runtime.ReadMemStats(&after)
				}
				names += len(e.Path)
				if e.Kind == archive.File {
					files++
				}
				return nil
			})
			expectCode(t, err, storage.Invalid, archive.CodeTooMany)
			if visited != 200_000 || files != c.want {
				t.Errorf("%d entries with %d files were visited, want 200000 with %d", visited, files, c.want)
			}
			grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
			t.Logf("%d bytes for names of %d", grown, names)
			if grown > 20<<20 {
				t.Errorf("%d bytes are held", grown)
			}
		})
	}
}

// TestEndlessHeaders gives one entry's headers for ever.
func TestEndlessHeaders(t *testing.T) {
	header := pax('x', "comment", strings.Repeat("c", 400))
	body := &bomb{next: func(int) []byte { return header }}
	_, err := walk(body, limits)
	expectCode(t, err, storage.Invalid, archive.CodeHeaderTooLarge)
	if body.i > 200 {
		t.Errorf("%d headers were read", body.i)
	}
}

// TestZeroLimitsAllowNothing: who forgets the limits is told.
func TestZeroLimitsAllowNothing(t *testing.T) {
	if _, err := walk(bytes.NewReader(pack(t, regular("f", ""))), storage.TreeLimits{}); err == nil {
		t.Error("a file is allowed")
	}
	if _, ok := errors.AsType[*storage.Error](archive.Walk(bytes.NewReader(nil), storage.TreeLimits{}, nil)); !ok {
		t.Error("an error without a class")
	}
}
