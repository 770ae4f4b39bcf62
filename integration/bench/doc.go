// Package bench measures the real binary beside what people use today, in the same run: a bare loop without a queue and
// rclone. It has benchmarks only; "make bench" runs them, docs/performance.md explains the figures.
//
// Contenders take turns, each round begins with another one, and the figure that counts is their ratio: it
// survives a busy or slow machine, milliseconds do not. After each round every copied file is checked; a contender
// that is fast and wrong fails.
//
// With -short everything runs with a tenth of the items, to see that it works.
package bench
