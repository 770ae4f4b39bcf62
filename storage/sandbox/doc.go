// Package sandbox is the driver for sandboxes: directories laid out <root>/<org>/<sandbox>/<path>.
//
// # Guaranteed
//
//   - Confinement. A path is resolved below its sandbox's directory by [os.Root], also when a process inside the
//     sandbox swaps directories for symbolic links meanwhile; what would leave fails with path_escapes. Absolute links are
//     refused, wherever they point. Only regular files are read or replaced, and nothing (a FIFO, a device) can
//     make an open wait. A link at the destination is not followed.
//
//   - Whole or not at all. Content is written to a hidden file in the directory of its destination and renamed over
//     it as the last step. After any error the hidden file is gone and the destination as before, with one
//     exception: if the directory cannot be synced after the rename (code sync_failed), the new content is visible
//     but may not survive a power cut.
//
//   - Durability, with [Options].Sync: when Put returns, the file, its name and each directory that Put created are
//     on disk. A directory that another process created a moment ago is covered by file systems that write
//     their journal in order (ext4, xfs, btrfs, zfs).
//
//   - Fencing. The hidden file is named after the claim of the worker that writes it, a name that nobody else
//     uses: no worker can rename another one's. A successor unlinks the hidden files of its predecessors
//     before it writes, so the rename of one that is merely slow fails with lease_lost. A predecessor that had
//     no hidden file yet is stopped by Content.Ready, not here.
//
//   - Honest reading. A source that is shorter, longer or modified at its end, compared to when it was opened, gives an
//     error in place of its last bytes, so no reader can take them for the whole.
//
//   - Parts. They are written to a hidden file as long as the content, whose space is taken at the beginning, so a full disk is told before
//     the first byte is copied (file systems that cannot, and content with holes: when it is full). Any process that knows the upload's name writes, reads and
//     completes it. Its name is never used again, so nobody who comes late writes to another one, and no part is written to
//     what was removed without that being told (upload_gone). A completion that is repeated finds the file by its inode and its birth at
//     the destination and succeeds again; not so after PartContent.Fresh, where what is visible is a copy: then it is upload_gone.
//     With Sync a part is on disk when PutPart returns, and so is what makes it found again.
//
//   - From file to file, where nobody digests, the system copies (copy_file_range): measured on ext4, at half the processor time of
//     reading and writing by 256 KiB, which is the size of buffer that costs least. From a socket to a file (splice) it costs as much as
//     reading and writing, and net/http hides the socket: what comes from the network passes through the buffer.
//
//   - Holes. A file that has some is told to be Sparse. Its copy has them as well: where the system copies they are looked for in the source, else
//     blocks of zeros are not written where the destination has nothing.
//
//   - Trees. An archive (package archive says what is one) is unpacked into a hidden directory beside its destination: what is wrong with it, or
//     with the disk, leaves nothing. With Sync one sync of the file system, not one of each file, makes everything durable before it is visible.
//     A new tree is shown by a rename that replaces nothing; a replacement by an exchange of two names, after which the old tree is removed. A merge
//     moves what is not there, a directory as a whole, and replaces files one by one, each at once; what would be in its way is looked for before it
//     begins. If something comes in its way later, or the worker dies, what was merged stays, and a repeated merge goes on.
//     Files keep their permissions, less the umask, and their time of modification; directories let their owner in besides. A successor renames
//     the hidden directories of its predecessors before it removes them, so that none is shown while it is removed. If a new tree is there
//     already that has every name and byte of the one that it unpacked, a predecessor has shown it, and that is success.
//
//   - Nothing replaced, with OnlyNew: by a rename that the system refuses where something is, or by a link.
//
// # Not guaranteed
//
//   - Hard links and mounts inside a sandbox are followed: a file with several names is a regular file. Who may make
//     them decides what they expose.
//   - A source rewritten in place with the same length within one tick of the file system's clock is not noticed.
//   - Ranges of a source are held together by its length, its time of modification and the time of change of its inode. A new name or mode of the
//     file in between is taken for a change of its content.
//   - The mode, owner and extended attributes of a file that is replaced are not kept: the new file has mode 0644 and a new
//     directory 0755, both less the umask.
//   - Where the file system cannot exchange names (NFS), a replacement is two renames, and for a moment nothing is there; the successor of a worker that
//     died in that moment puts the old tree back. A merge is not at once as a whole, and each of its steps looks right before it whether
//     a successor has taken over: one that is slower than that moves a file that the successor moves there, too.
//   - What cannot be removed of a tree that was replaced stays, hidden: what is mounted in it, a directory that is not the worker's, and one in which
//     a process goes on making files for half an hour.
//   - A process inside the sandbox sees the hidden files and can spoil them; it can spoil the result as well.
//   - Hidden files of workers that died stay until a successor names them in its list of predecessors, and those that parts were written
//     to until they are aborted, or a successor begins anew.
//   - On a file system that folds case, names that differ in case only are one.
//
// The directories of orgs and sandboxes themselves are the operator's: a sandbox whose directory is a symbolic link is
// refused. Whether a sandbox may exist is for the caller to know: a destination creates its directory.
package sandbox
