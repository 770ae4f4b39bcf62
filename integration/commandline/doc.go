// Package commandline runs the commands for batches as a person or a script does: the real binary against a real fleet, in pipes and
// on a terminal, with Ctrl-C, and with a fleet that goes away and comes back.
package commandline
