// Package s3server is the embedded S3 of "copyfleet up": versity/versitygw with its posix backend. Buckets are
// directories below Config.Dir/buckets and objects are files in them, so that what was copied can be looked at
// with ls.
//
// Guaranteed:
//
//   - An object is visible whole or not at all, also after a crash and after a power cut: its content is on disk
//     (fsync) before it gets its name.
//   - What was answered with success is on disk: the answer waits for a syncfs of the file system, which all requests
//     that wait at that moment share. The library itself never syncs; this package adds both steps. Config.NoSync
//     leaves them out.
//   - Objects and their metadata are there again after a restart.
//   - Who listens ([Server.Tell]) is told of each object that was made or removed, once that was answered with success, unless too many events wait
//     or the process dies first.
//   - Nothing is printed on standard output, and no request is logged.
//
// Not guaranteed:
//
//   - With NoSync, that a power cut spares the last half minute or so: an object may be gone, or its file may be
//     there with its full length and zeros in it. A crash of the process alone loses nothing either way.
//   - That every key of S3 can be stored, because a key is a path. A component (what lies between two slashes) has at
//     most 255 bytes and is not "", "." or ".."; "a" and "a/b" cannot both be objects; a key that ends in a slash
//     holds no bytes. Such a key is refused, never changed to another one.
//   - Silence on standard error: about a request that is no HTTP, or whose connection ends within the first bytes of
//     its body, the library writes a line there and offers no way to prevent it. The line tells neither path nor query.
//   - Versioning, notifications that a client configures, and policies for more than one account: there is one key, which may do everything.
//
// Metadata (type, ETag, checksums) are extended attributes of the files where the file system has them, and otherwise
// files below Config.Dir/metadata. A directory that began with the latter stays with it.
//
// The library names files relative to the current directory: from Start to Close that of the whole process is
// Config.Dir/buckets. Whoever keeps relative paths makes them absolute before. The library allows one server a
// process; a second Start fails with [ErrRunning].
package s3server
