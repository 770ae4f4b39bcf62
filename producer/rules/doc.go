// Package rules has the rules that turn events into copies: their documents, what they match, and the copies that they make. It does no input and output,
// reads no clock, and decides on the same event alike for ever.
//
// It guarantees:
//   - A file is taken whole or not at all. [Parse] tells all that is wrong with it, each with document, line, field and reason; what is wrong with one
//     document hides nothing of the next. A field that is unknown, given twice or of another source is refused: a mistyped condition would else be none.
//   - Reading a file costs no more than its bytes are worth: [MaxFile] bytes, [MaxDocuments] documents, 20 levels, no aliases.
//   - A value of an event stays in the place that the template gives it. It cannot end a string of JSON, name another host, add a parameter or a header, or
//     lead out of the directory that the template names; what would is refused ([RenderError]), never cut or changed. What a reader of the copy finds in
//     a place is exactly the value.
//   - A value that the event does not tell is never "" but [CodeMissingValue].
//   - An expression ends: its cost is counted and limited, alike on every machine, and its time, too. No error of it repeats a value of the event.
//   - A [Rule] does not change, and may be used by several goroutines.
//
// It does not look at grants, sandboxes or hosts: an item that was rendered is validated as any other of POST /v1/batches. [Rule.Sample] is an item for
// doing so when the rule is applied, before there is an event.
//
// # Documents
//
// A file has documents of YAML 1.2, divided by lines "---", or objects of JSON, one behind the other. A text that begins with a placeholder stands in quotes.
//
//	name: ingest                       # [a-z0-9][a-z0-9-]{0,62}
//	match:
//	  source: s3                       # or cloudevents
//	  bucket: incoming                 # s3: literal, required
//	  events: ["s3:ObjectCreated:*"]   # s3: names, also with "*" at the end; left out: creations
//	  prefix: raw/                     # s3: of the key, literal
//	  suffix: .csv                     # s3: of the key, literal; it does not overlap the prefix
//	  glob: "raw/**/2026-*/?.csv"      # s3: of the whole key
//	  types: ["com.example.file.*"]    # cloudevents: type, also with "*" at the end; left out: all
//	  origins: ["/sensors/1"]          # cloudevents: source, also with "*" at the end; left out: all
//	  when: size > 0 && size < 1000000 # an expression
//	copy:                              # an item of POST /v1/batches
//	  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
//	  dest: {type: sandboxFileLocation, sandbox: SBX-1, path: "/in/{{key.base}}"}
//	  id: "{{key}}"                    # these and below may be left out
//	  size: "{{size}}"
//	  sha256: "{{event.data.sha256}}"  # md5, too
//	  conflict: overwrite              # skip, fail, if_different
//	  digest: sha256                   # none
//	options:                           # may be left out
//	  lane: bulk                       # or interactive
//	  attempts: 5                      # 1 to 20
//	  label: from the scanner          # of the batches; left out: "rule ingest"
//
// All that a match says must hold; of a list, one entry. Locations have the members that they have in the API: type and sandbox, path (sandboxFileLocation),
// url, headers (httpGetLocation, httpPutLocation), url, form, fileField, headers (httpPostFormLocation), bucket, key (objectLocation).
//
// # Events of S3
//
// The names are those of Amazon S3 and MinIO; another one is refused. "s3:ObjectCreated:*" is about events that tell of new bytes: PutTagging, DeleteTagging,
// PutRetention and PutLegalHold, which MinIO puts under the same name, match only if they are named. An object that a sweep found matches a rule that
// is about any creation. Removals match only rules that name them.
//
// # Globs
//
// "*" stands for any text without "/", "**" for any text, "**/" also for none, "?" for one character but "/". Nothing else has a meaning; brackets, braces
// and backslashes are refused, since elsewhere they have one. The time is linear in the key.
//
// # Expressions
//
// An expression is CEL (https://cel.dev) with its standard functions, without extensions, and is true or false. It may name event (as the templates do),
// type and data (event.data), and on S3 bucket, key, size (-1: not told) and etag. Names are checked when the rule is applied, and types as far as they are
// known: those within event and data are not. A field that the event lacks is an error unless has() asked for it, and an event on which the expression
// fails is refused, not skipped in silence. The pattern of matches() is a literal text.
//
// Limits: 4096 characters, two loops one in the other, a cost of 1,048,576: about one a step, one for ten bytes of each text that a call looks at, and one
// for each entry of lists and objects that are compared.
//
// # Templates
//
// A placeholder {{name}} stands for a value of the event. Names are literal: types of locations, names of headers and form fields, conflict and digest.
//
//	bucket, key               of the object
//	key.base, key.dir         of "a/b/c.tar.gz": "c.tar.gz" and "a/b"
//	key.name, key.ext         "c.tar" and "gz"; ".profile" and "a." have no extension
//	size, etag, version, sequencer
//	type, time                in the form of RFC 3339, in UTC
//	event.a.b[0].c            event has the attributes of a CloudEvent and "data"; of an S3 event "id", "source", "type", "time", and as "data" the
//	                          record as it came, in which the key is still encoded
//	secret.NAME               in values of headers and forms only
//
// The placeholders from bucket to sequencer belong to rules on S3. What a sweep found has no sequencer and no record: a rule that needs them cannot make up
// for lost events. A value is a text, a number as it was written, true or false; one that is absent, null or empty is missing, and another
// is [CodeInvalidValue], as is what is not UTF-8.
//
// How a value is put in its place:
//
//	url             As the whole, it is taken as it is, and validated as any URL. Else scheme, host and port are literal, and it stands in the path,
//	                or in the query: all but letters, digits and "-._~" is percent-encoded, but "/" of key and key.dir in the path. A segment that it
//	                makes empty, "." or ".." is refused, also behind an encoded "/" or a backslash.
//	path            The template begins with "/". A segment that is empty, "." or ".." and control characters are refused: the file is below
//	                what stands in front of the first placeholder, up to its last "/". Percent signs mean nothing.
//	key, of dest    Segments "." and ".." and control characters are refused; the key begins with what stands in front of the first placeholder.
//	key, of src     As it is.
//	headers         Control characters but the tab are refused.
//	size            The placeholder is the whole text, and its value a whole number.
//	the rest        As it is.
//
// A file of rules is rehearsed with made-up values when it is read: what no event can make right is refused then, such as a template that climbs by itself, or
// a copy of an object onto itself. Whether copies of one rule lead to events of another is not looked at here.
package rules
