// Package hostile sends what nobody should send, and copies from and to peers that misbehave, through real processes. Each gets
// its clear answer, nothing is left behind, and no credential shows anywhere.
package hostile
