"""Localisation: boxes of nets, merged and scored as in appendix A of the paper."""
