// Package report says what a load test has measured: as a summary in JSON, as text with a plot, and as a page of HTML; whether two runs differ; and whether
// a run is worse than it may be.
package report
