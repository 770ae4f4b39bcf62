package worker

import (
	"errors"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// codeHints are what a reader may do about failures of which a driver says nothing, by their codes.
var codeHints = map[string]string{
	storage.CodeDestinationExists: `Remove it, or say "conflict": "overwrite", "skip" or "if_different".`,
	storage.CodeSourceChanged:     "Copy it when nothing writes to it any more.",
	storage.CodeSourceShort:       "Look whether the source is whole: its server announces more bytes than it gives.",
	storage.CodeNoRanges:          "Nothing is to be done if another attempt succeeds: the source can be read only from its beginning.",
}

// hintUploadExists is what may be done about a destination that exists, where an upload session asked for it not to.
const hintUploadExists = `Remove it, or upload with "conflict": "replace" or "merge".`

// sideHints are those by class, where the source and the destination differ.
var sideHints = map[protocol.Class][2]string{ // destination, source
	protocol.NotFound: {"Look whether the bucket, sandbox or URL exists.", "Look whether it is still there, and whether the location is spelled right."},
	protocol.Denied: {
		"Check the credentials of the destination; a presigned URL may have expired.", "Check the credentials of the source; a presigned URL may have expired.",
	},
	protocol.Unavailable: {
		"Look whether the destination works and can be reached from the workers, then retry the item.",
		"Look whether the source works and can be reached from the workers, then retry the item.",
	},
}

// classHints are those of the other classes.
var classHints = map[protocol.Class]string{
	protocol.Invalid:     "Correct the item: the same request fails again.",
	protocol.Conflict:    "Look what is at the destination, and choose another one or remove it.",
	protocol.TooLarge:    "Choose a destination that takes files of this size.",
	protocol.NoSpace:     "Free space at the destination, then retry the item.",
	protocol.Corrupt:     "Look whether the source is what the caller expects, then retry the item.",
	protocol.Throttled:   "Ask less of it at once: --host-requests and --host-concurrency of the workers.",
	protocol.Timeout:     "Look why the peer is slow; --header-timeout and --idle-timeout of the workers say how long they wait.",
	protocol.Interrupted: "Look what ends the connections between the workers and the peer, then retry the item.",
	protocol.Internal:    "This may be a bug in Copyfleet; the worker's log may tell more.",
}

// hintFor is what the reader may do about a failure where whoever met it did not say.
func hintFor(err error, f *protocol.Failure) string {
	if hint, known := codeHints[f.Code]; known {
		return hint
	}
	if sides, known := sideHints[f.Class]; known {
		if _, fromSource := errors.AsType[*sourceError](err); fromSource {
			return sides[1]
		}
		return sides[0]
	}
	return classHints[f.Class]
}
