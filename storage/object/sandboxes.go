package object

import (
	"errors"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// Sandboxes keeps the files of sandboxes as objects: <prefix>/<org>/<sandbox>/<path>. Paths follow the rules of package sandbox. There are
// no directories: what is no file is not there, a parent needs no making, and whether "/a" and "/a/b" can both be files is up to the
// store. There are no hidden files either: an object is written whole or not at all.
type Sandboxes struct {
	store          *Store
	bucket, prefix string // the prefix ends in a slash, or is empty
}

// file is a path in a sandbox.
type file struct{ org, sandbox, path string }

// Sandboxes returns the sandboxes below a prefix, which has no slash at its ends; "" is the whole bucket. From then on nothing else reads,
// writes or presigns there: who may use the bucket may not use the sandboxes of others.
func (s *Store) Sandboxes(bucket, prefix string) (*Sandboxes, error) {
	if err := s.Reserve(bucket, prefix); err != nil {
		return nil, err
	}
	if prefix != "" {
		prefix += "/"
	}
	return &Sandboxes{store: s, bucket: bucket, prefix: prefix}, nil
}

// Source returns a file to read.
func (s *Sandboxes) Source(org, sandbox, name string) storage.Source {
	return &source{s.place(org, sandbox, name)}
}

// Destination returns a file to write. What other drivers call temp and stale has no meaning here: an unfinished object is none.
func (s *Sandboxes) Destination(org, sandbox, name, _ string, _ []string) storage.Destination {
	return &destination{s.place(org, sandbox, name)}
}

func (s *Sandboxes) place(org, sandbox, name string) place {
	return place{store: s.store, bucket: s.bucket, key: s.prefix + org + "/" + sandbox + name, file: file{org, sandbox, name}}
}

// check refuses names that are none, and what is not for the caller.
func (p place) check(op string) error {
	if p.staging != "" {
		return p.checkStaged(op)
	}
	if p.file == (file{}) {
		if r, ok := p.store.reservation(p.bucket, p.key); ok {
			return storage.Errorf(storage.Denied, CodeReserved, op, p.subject(), "%s", r.purpose)
		}
		return checkNames(op, p.bucket, p.key)
	}
	if err := sandbox.CheckPath(op, p.file.org, p.file.sandbox, p.file.path); err != nil {
		return err
	}
	err := checkNames(op, p.bucket, p.key)
	if e, ok := errors.AsType[*storage.Error](err); ok {
		e.Subject = p.subject()
		if e.Code == "invalid_key" && len(p.key) > maxKey {
			e.Code, e.Message = "name_too_long", "the path is too long for the store of the sandboxes"
		}
	}
	return err
}

// asFile gives an error the code and the text that files of sandboxes have, wherever they are.
func (p place) asFile(e *storage.Error) {
	if p.file == (file{}) {
		return
	}
	switch {
	case e.Code == "source_object_not_found":
		e.Code, e.Message, e.Hint = "sandbox_file_not_found", "File not found in sandbox: "+p.file.path, ""
		e.Status, e.StatusText = 0, "" // that it was asked over HTTP is nobody's concern
	case e.Code == "bucket_not_found":
		// It is not the caller's: the copy may well succeed once it is there.
		e.Class, e.Code, e.Message = storage.Unavailable, "sandboxes_gone", "the bucket of the sandboxes does not exist"
		e.Hint = "--sandboxes of the worker names it."
	case e.Reason == "KeyTooLongError":
		e.Class, e.Code, e.Message = storage.Invalid, "name_too_long", "a name in the path is too long for the store of the sandboxes"
	case e.Code == codeParent:
		e.Message = "a parent in the path is not a directory"
	case e.Code == codeDirectory:
		e.Message = "the destination is a directory"
	}
}

// Codes of what a store refuses that keeps objects as files: one below another, and one where others lie below. Files of directories have the same.
const (
	codeParent    = "parent_not_directory"
	codeDirectory = "destination_is_directory"
)

// explainTree says what it means that a store keeps objects as files.
func explainTree(e *storage.Error) {
	switch e.Reason {
	case "ObjectParentIsFile", "XMinioParentIsObject":
		e.Code, e.Message = codeParent, "this store keeps objects as files, and a parent of the key is one"
		e.Hint = "Choose another path, or remove the file that stands in the place of a directory."
	case "ExistingObjectIsDirectory", "XMinioObjectExistsAsDirectory":
		e.Code, e.Message = codeDirectory, "this store keeps objects as files, and the key is a directory to it: others lie below"
		e.Hint = "Choose another path, or remove the files below this one."
	default:
		return
	}
	e.Class, e.Status, e.StatusText = storage.Conflict, 0, "" // the status would be told in place of the message
}

// InStore marks sandboxes whose files are objects: who counts visits to the store counts those to them.
func (s *Sandboxes) InStore() {}
