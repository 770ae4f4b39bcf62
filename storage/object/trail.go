package object

import (
	"maps"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// metadataPrefix begins the names of the headers that metadata of an object travel in.
const metadataPrefix = "X-Amz-Meta-"

// CodeTrail is the code of a refusal of a trail that cannot be a header's value. Its class is Invalid.
const CodeTrail = "trail_invalid"

// checkTrail refuses what cannot be a header's value: a store would answer with a wrong signature, or keep something else.
func (o *destination) checkTrail(trail string) error {
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	if len(trail) <= storage.MaxTrail && trail == strings.TrimSpace(trail) && !strings.ContainsFunc(trail, odd) {
		return nil
	}
	return storage.Errorf(storage.Invalid, CodeTrail, "write", o.subject(),
		"the trail of rules is not ASCII, or longer than %d bytes", storage.MaxTrail)
}

// shown is the trail that the object gets. A file of a sandbox gets none: nobody sees its metadata.
func (o *destination) shown(trail string) string {
	if o.file != (file{}) {
		return ""
	}
	return trail
}

// trailed are metadata with a trail in the place of the one that they have.
func (o *destination) trailed(metadata map[string]string, trail string) map[string]string {
	out := make(map[string]string, len(metadata)+1)
	maps.Copy(out, metadata)
	maps.DeleteFunc(out, func(name, _ string) bool { return strings.EqualFold(name, storage.TrailName) })
	if trail = o.shown(trail); trail != "" {
		out[storage.TrailName] = trail
	}
	return out
}

// trailOf is the trail that an object has.
func trailOf(info *minio.ObjectInfo) string {
	for name, value := range info.UserMetadata {
		if strings.EqualFold(name, storage.TrailName) {
			return value
		}
	}
	return ""
}

// sameAs makes a new object that has the type and the metadata of another one, as the copy of a whole object has, and a trail of its own.
func (o *destination) sameAs(info *minio.ObjectInfo, trail string) minio.PutObjectOptions {
	return minio.PutObjectOptions{
		ContentType: info.ContentType, UserMetadata: o.trailed(info.UserMetadata, trail),
		ContentEncoding: info.Metadata.Get("Content-Encoding"), ContentDisposition: info.Metadata.Get("Content-Disposition"),
		ContentLanguage: info.Metadata.Get("Content-Language"), CacheControl: info.Metadata.Get("Cache-Control"), Expires: info.Expires,
	}
}
