package producer

import "strings"

const (
	maxPath = 4096 // bytes: PATH_MAX of Linux
	maxName = 255  // bytes: NAME_MAX of Linux

	// reservedName begins the names of our own hidden files beside a destination.
	reservedName = ".copyfleet-"
)

// sandboxPath cleans the path of a file inside a sandbox: absolute, without empty, "." or ".." segments. It is
// taken literally; percent signs mean nothing in it. On a fault it returns its code and message.
func sandboxPath(raw string) (clean, code, message string) {
	switch {
	case len(raw) > maxPath:
		return "", faultTooLong, "A path may have 4096 bytes at most."
	case hasControl(raw):
		return "", faultControl, "A path must not hold control characters."
	case raw[0] != '/':
		return "", faultPath, "A path must be absolute: it begins with '/', the root of the sandbox."
	}
	segments := strings.Split(raw[1:], "/")
	// A name of a directory is refused before it is cleaned into the name of a file.
	if last := segments[len(segments)-1]; last == "" || last == "." || last == ".." {
		return "", faultPath, "A path must name a file; this one names a directory."
	}
	return cleanSegments(segments)
}

// cleanSegments joins the segments of a path once they are resolved.
func cleanSegments(segments []string) (clean, code, message string) {
	kept, inside := resolve(segments)
	if !inside {
		return "", faultPathEscapes, "A path must not lead out of the sandbox."
	}
	for _, segment := range kept {
		switch {
		case len(segment) > maxName:
			return "", faultTooLong, "A name in a path may have 255 bytes at most."
		case len(segment) >= len(reservedName) && strings.EqualFold(segment[:len(reservedName)], reservedName):
			return "", faultPathReserved, "Names that begin with " + reservedName + " are reserved."
		}
	}
	return "/" + strings.Join(kept, "/"), "", ""
}

const (
	// workingDirectory is where relative paths of uploads begin.
	workingDirectory = "/workspace"
	// ownDirectory, at the top of a sandbox, is kept for us.
	ownDirectory = ".copyfleet"
)

// uploadPath cleans the path that an upload is published to, of a file or of a directory. One that is relative begins at the working directory.
func uploadPath(raw string, directory bool) (clean, code, message string) {
	if raw != "" && raw[0] != '/' {
		raw = workingDirectory + "/" + raw
	}
	if directory {
		clean, code, message = directoryPath(raw)
	} else {
		clean, code, message = sandboxPath(raw)
	}
	if top, _, _ := strings.Cut(strings.TrimPrefix(clean, "/"), "/"); code == "" && strings.EqualFold(top, ownDirectory) {
		return "", faultPathReserved, "The directory /" + ownDirectory + " is reserved."
	}
	return clean, code, message
}

// directoryPath cleans the path of a directory below the root of a sandbox: as [sandboxPath], but it may end in a slash or a dot.
func directoryPath(raw string) (clean, code, message string) {
	switch {
	case len(raw) > maxPath:
		return "", faultTooLong, "A path may have 4096 bytes at most."
	case hasControl(raw):
		return "", faultControl, "A path must not hold control characters."
	}
	clean, code, message = cleanSegments(strings.Split(raw[1:], "/"))
	if clean == "/" {
		return "", faultPath, "A directory is unpacked below the root of a sandbox, not over it."
	}
	return clean, code, message
}

// resolve takes empty, "." and ".." segments out. It reports false if these climb above the root, even if the path
// comes back down again.
func resolve(segments []string) (kept []string, inside bool) {
	for _, segment := range segments {
		switch segment {
		case "", ".":
		case "..":
			if len(kept) == 0 {
				return nil, false
			}
			kept = kept[:len(kept)-1]
		default:
			kept = append(kept, segment)
		}
	}
	return kept, true
}
