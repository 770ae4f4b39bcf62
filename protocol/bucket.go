package protocol

import (
	"net/netip"
	"strings"
)

// BucketFault returns what is wrong with a bucket name, or "". Source: "General purpose bucket naming rules" of
// the Amazon S3 User Guide, without those that only keep names of Amazon's own apart.
func BucketFault(name string) string {
	const rule = "A bucket name has 3 to 63 lowercase letters, digits, '.' and '-', with a letter or digit at both ends"
	if len(name) < 3 || len(name) > 63 || !lowerOrDigit(name[0]) || !lowerOrDigit(name[len(name)-1]) {
		return rule + "."
	}
	for i := range len(name) {
		if c := name[i]; !lowerOrDigit(c) && c != '.' && c != '-' {
			return rule + "."
		}
	}
	if strings.Contains(name, "..") {
		return rule + ", and no two dots in a row."
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return rule + ", and is not an IP address."
	}
	return ""
}

func lowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
