// Package job makes one load generator's part of a run out of the options of the run.
//
// A [Spec] is all that says what a run does, without secrets: it stands in the first line of every file of a run, and travels to other machines. A [Job] writes
// what the load needs, makes the load, and says what it was like. It removes nothing: who began the run clears what is below its prefix, when all of its
// generators have ended, by a [Store].
package job
