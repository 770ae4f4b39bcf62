// Package archive reads a directory out of a tar stream that nobody vouches for (POSIX ustar and pax, GNU tar). It writes nothing: what it
// tells is unpacked by the drivers.
//
// # Guaranteed
//
//   - Every path is relative, clean and below the tree: no "..", no ".", no empty element, valid UTF-8 without control characters, 255 bytes
//     an element and 4,096 in all, at most [storage.TreeLimits.Depth] elements. A leading "./" and the slash at the end of a directory are
//     removed, and the tree itself ("./") is not told. A backslash is a character as any other, and so are letters of the other case:
//     what the file system takes for the same name is for the driver to notice.
//
//   - A path is told once (a directory: perhaps several times), after each directory above it; one that the archive does not name comes as an
//     entry that is Implied. Nothing is ever below what is not a directory, so who makes the entries in order, in a directory that nobody
//     else writes, follows no link.
//
//   - A symbolic link leads to a place in the tree, also through other links of the archive: its target is relative, ".." is at its beginning only
//     and never climbs higher than the tree. The directories above a link are real ones, so each ".." is what it looks like; behind them the
//     way leads down, or through another link of which the same holds. What a link points to need not be there. A hard link names a regular
//     file that was told before.
//
//   - Regular files, directories and these links are all there is. Devices, FIFOs, sparse files and entries of a kind that is not known are
//     refused: to leave out a part of what somebody archived is no success.
//
//   - The whole body was read when Walk returns nil, and was an archive up to its end: two blocks of zeros, then nothing but zeros. So a
//     digest that is computed on the way is that of the body, and an archive that was cut off between two entries is noticed.
//
//   - Memory is bounded by the number of entries (about 50 bytes for each, not its path) and by headers of 64 KiB: archive/tar takes up to 1 MiB
//     for each extended header, and any number of them before one entry.
//
// Permission bits are told; setuid, setgid and sticky bits, owners and extended attributes are not.
package archive
