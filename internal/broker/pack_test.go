package broker

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestPackedValuesComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "unit")
		value := append([]byte("{"), bytes.Repeat(unit, rapid.IntRange(0, 200).Draw(t, "times"))...)
		packed := pack(value)
		if len(packed) > len(value) {
			t.Fatalf("%d bytes became %d", len(value), len(packed))
		}
		plain, err := Unpack(packed)
		if err != nil || !bytes.Equal(plain, value) {
			t.Fatalf("%d bytes came back as %d: %v", len(value), len(plain), err)
		}
	})
}

func TestReceiptsTakeLittleRoom(t *testing.T) {
	t.Parallel()
	value := bytes.Repeat([]byte(`{"index":1,"state":"failed","failure":{"class":"not_found","code":"source_http_404"}},`), 256)
	if packed := pack(value); len(packed) > len(value)/10 {
		t.Errorf("%d bytes became %d", len(value), len(packed))
	}
}

func TestWhatIsNotPackedIsRefused(t *testing.T) {
	t.Parallel()
	huge := append([]byte{packedMark}, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F) // says that it comes to 4 GiB
	for _, bad := range [][]byte{{packedMark}, {packedMark, 0x80}, huge, append(pack(bytes.Repeat([]byte("ab"), 1000)), 1, 2, 3)} {
		if _, err := Unpack(bad); !errors.Is(err, errPacked) {
			t.Errorf("%x is taken: %v", bad[:min(len(bad), 8)], err)
		}
	}
	for _, plain := range [][]byte{nil, []byte("{}"), {0, 1}} {
		if got, err := Unpack(plain); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%q became %q: %v", plain, got, err)
		}
	}
}
