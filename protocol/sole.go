package protocol

// SoleSummary is the summary of a batch whose only item has just come to its final receipt, in its first attempt and without a failure. It is what
// the aggregator makes of the same report.
func SoleSummary(r *Report) Summary {
	s := Summary{
		Version: SummaryVersion, Batch: r.Ref.Batch, Org: r.Ref.Org, Lane: r.Lane, Total: r.Total, Receipts: []Receipt{r.Receipt},
	}
	s.Tally.Count(&r.Receipt)
	s.State = s.Tally.State(s.Total)
	if n := len(r.Receipt.Attempts); n > 0 {
		s.Started, s.Ended = r.Receipt.Attempts[0].Start, r.Receipt.Attempts[n-1].End
	}
	return s
}
