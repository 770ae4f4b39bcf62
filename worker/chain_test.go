package worker

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestChainGoesOn cuts content anywhere, and has each piece digested by another chain.
func TestChainGoesOn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		wish := transfer{}
		if rapid.Bool().Draw(t, "md5") {
			wish.expect.MD5 = "given"
		}
		if rapid.Bool().Draw(t, "no sha256") {
			wish.digest = protocol.DigestNone
		}
		data := rapid.SliceOfN(rapid.Byte(), 1, 4096).Draw(t, "data")
		c := newChain(&wish)
		for rest := data; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			_, _ = c.Write(rest[:n])
			rest = rest[n:]
			next := newChain(&wish)
			if !c.idle() && !next.resume(c.state(), c.at) {
				t.Fatal("it cannot go on")
			}
			if next.at = c.at; next.resume(nil, c.at) && !c.idle() {
				t.Fatal("it goes on from nothing")
			}
			if !c.idle() {
				next.resume(c.state(), c.at)
			}
			next.at = c.at
			c = next
		}
		if sum := sha256.Sum256(data); c.sha != nil && hex.EncodeToString(c.sha.Sum(nil)) != hex.EncodeToString(sum[:]) {
			t.Error("the SHA-256 is wrong")
		}
		if sum := md5.Sum(data); c.md5 != nil && hex.EncodeToString(c.md5.Sum(nil)) != hex.EncodeToString(sum[:]) {
			t.Error("the MD5 is wrong")
		}
	})
}

// TestChainRefusesWhatOthersWanted has chains go on from states of other digests.
func TestChainRefusesWhatOthersWanted(t *testing.T) {
	t.Parallel()
	wishes := map[string]transfer{"sha256": {}, "both": {expect: protocol.Expect{MD5: "given"}}, "md5": {digest: protocol.DigestNone, expect: protocol.Expect{MD5: "given"}}}
	for from, a := range wishes {
		for to, b := range wishes {
			c, d := newChain(&a), newChain(&b)
			_, _ = c.Write([]byte("some"))
			if ok := d.resume(c.state(), c.at); ok != (from == to) && !(from == "both" && to == "sha256") {
				t.Errorf("one that wants %s goes on from %s: %v", to, from, ok)
			}
		}
	}
}
