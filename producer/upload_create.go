package producer

import (
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

// maxUploadUser bounds the user that an upload names, in bytes.
const maxUploadUser = 256

// archiveTar is the one form of archives.
const archiveTar = "tar"

// uploadMembers are the members of a request for a session.
var uploadMembers = []string{"kind", "source_kind", "target_path", "content_length", "checksum_algorithm", "conflict", "user", "archive_format",
	"whole_checksum_sha256", "metadata"}

// createUpload answers POST /v1/sandboxes/{id}/uploads. Repeated with its key it answers the same.
func (s *Server) createUpload(w http.ResponseWriter, r *http.Request) {
	request, p := s.uploadRequest(w, r)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	session, err := s.uploads.Create(r.Context(), *request)
	if err != nil {
		s.refuseUpload(w, r, err)
		return
	}
	w.Header().Set("Location", sessionPath(session.Sandbox, session.ID))
	writeSessions(w, http.StatusCreated, sessionAnswer{viewOfSession(session)}, session)
}

func (s *Server) uploadRequest(w http.ResponseWriter, r *http.Request) (*uploads.Request, *Problem) {
	org, id := principalOf(r).Org, protocol.SandboxID(r.PathValue("id"))
	if p := s.sandboxMayBe(org, id); p != nil {
		return nil, p
	}
	key, p := idempotencyKey(r.Header)
	if p == nil && key == "" {
		missing := newProblem(CodeInvalidHeader, "Idempotency-Key is required: with it the request can be repeated, and makes one session only.")
		p = &missing
	}
	if p != nil {
		return nil, p
	}
	if s.uploads == nil {
		none := newProblem(CodeNotFound, "This server takes no uploads.")
		return nil, &none
	}
	b, p := s.readBody(w, r, smallBody)
	if p != nil {
		return nil, p
	}
	request, p := parseUpload(b.bytes)
	b.Release()
	if p != nil {
		return nil, p
	}
	request.Org, request.Sandbox, request.Key = org, id, key
	// Last of all, because it is the only step that leaves something behind.
	sandbox, p := s.sandboxForUse(r, org, id)
	request.Pool = poolName(sandbox.Pool)
	return request, p
}

// poolName is the pool of a sandbox, of which "" is the default one.
func poolName(pool string) string {
	if pool == "" {
		return protocol.DefaultPool
	}
	return pool
}

// parseUpload decodes and validates a request for a session, and finds every problem that it has.
func parseUpload(body []byte) (*uploads.Request, *Problem) {
	v, metadata, err := decodeUpload(body)
	if err != nil {
		return nil, syntaxProblem(err)
	}
	var list problems
	if v.kind != jsontext.KindBeginObject {
		list.add("", faultWrongType, "The body must be an object, it is "+v.kindName()+".")
		return nil, list.problem(CodeInvalidRequest)
	}
	unknownMembers(v, "", &list, uploadMembers...)
	request := &uploads.Request{
		Kind: protocol.UploadKind(choice(v, "kind", &list, string(protocol.UploadFile), string(protocol.UploadTree))),
		Source: protocol.UploadSource(choice(v, "source_kind", &list,
			string(protocol.UploadRestartable), string(protocol.UploadSpooled), string(protocol.UploadArchive))),
		Length: requiredInt(v, "content_length", &list),
		User:   uploadUser(v, &list),
		Whole:  optionalChecksum(v, "whole_checksum_sha256", &list),
	}
	choice(v, "checksum_algorithm", &list, checksumAlgorithm)
	request.TargetPath = checked(v, "", "target_path", func(raw string) (string, string, string) {
		return uploadPath(raw, request.Kind == protocol.UploadTree)
	}, &list)
	request.Conflict = conflictOf(v, request.Kind, &list)
	request.Archive = archiveOf(v, request, &list)
	if len(metadata) > uploads.MaxMetadata {
		list.add("/metadata", faultTooLong, "The metadata may have 16384 bytes at most.")
	}
	request.Metadata = metadata
	if list.total > 0 {
		return nil, list.problem(CodeInvalidRequest)
	}
	return request, nil
}

// decodeUpload decodes the request for a session; its metadata come as they are.
func decodeUpload(body []byte) (v value, metadata []byte, err error) {
	d := newDecoder(body)
	if d.PeekKind() != jsontext.KindBeginObject {
		if v, err = d.value(0); err == nil {
			err = d.end()
		}
		return v, nil, err
	}
	if v, err = d.value(1); err == nil {
		err = d.end()
	}
	if err != nil || v.get("metadata").absent() {
		return v, nil, err
	}
	// It was decoded once, with all that is to be checked; now the bytes of one member.
	d = newDecoder(body)
	if _, err = d.token(); err != nil {
		return v, nil, err
	}
	for {
		name, err := d.token()
		if err != nil || name.Kind() == jsontext.KindEndObject {
			return v, nil, err
		}
		found := name.String() == "metadata"
		raw, err := d.ReadValue()
		if err != nil || found {
			return v, slices.Clone(raw), err
		}
	}
}

// choice returns a required member that has one of these values.
func choice(v value, name string, p *problems, values ...string) string {
	text, ok := requiredString(v, "", name, p)
	if ok && !slices.Contains(values, text) {
		p.add(pointer("", name), faultChoice, "This must be "+strings.Join(values, " or ")+".")
		return ""
	}
	return text
}

// requiredInt returns a required whole number from 0 on.
func requiredInt(v value, name string, p *problems) int64 {
	if v.get(name).absent() {
		p.add(pointer("", name), faultMissing, "This member is required.")
		return 0
	}
	return optionalInt(v, "", name, 0, 0, maxInt64, p)
}

const maxInt64 = 1<<63 - 1

// optionalChecksum returns a digest in lowercase hex, or "".
func optionalChecksum(v value, name string, p *problems) string {
	text, ok := optionalString(v, "", name, p)
	if ok && !v.get(name).absent() && !hexSHA256(text) {
		p.add(pointer("", name), faultDigest, "This digest has 64 lowercase hexadecimal digits.")
	}
	return text
}

// uploadUser returns the user that an upload is for. It is kept for those who ask, and means nothing here.
func uploadUser(v value, p *problems) string {
	user, ok := optionalString(v, "", "user", p)
	switch {
	case !ok || v.get("user").absent():
	case user == "":
		p.add("/user", faultEmpty, "A user must not be empty; leave it out.")
	case len(user) > maxUploadUser:
		p.add("/user", faultTooLong, "A user may have 256 bytes at most.")
	case strings.ContainsFunc(user, func(c rune) bool { return !unicode.IsPrint(c) }):
		p.add("/user", faultControl, "A user has printable characters only.")
	}
	return user
}

// conflictOf says what is done about something that is there. A file that exists is not replaced unless that is asked for; a directory is merged.
func conflictOf(v value, kind protocol.UploadKind, p *problems) protocol.UploadConflict {
	if v.get("conflict").absent() {
		if kind == protocol.UploadTree {
			return protocol.UploadMerge
		}
		return protocol.UploadError
	}
	return protocol.UploadConflict(choice(v, "conflict", p, string(protocol.UploadMerge), string(protocol.UploadReplace), string(protocol.UploadError)))
}

// archiveOf returns the form of the archive, and refuses what does not go together.
func archiveOf(v value, request *uploads.Request, p *problems) string {
	given := !v.get("archive_format").absent()
	switch request.Kind {
	case protocol.UploadTree:
		return choice(v, "archive_format", p, archiveTar)
	case protocol.UploadFile:
		if given {
			p.add("/archive_format", faultUnexpected, "A file is no archive to be unpacked; this is for the kind directory_tar.")
		}
		if request.Source == protocol.UploadArchive {
			p.add("/source_kind", faultChoice, "The archive of a directory is of the kind directory_tar.")
		}
	default: // said already
	}
	return ""
}
