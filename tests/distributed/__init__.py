"""Clusters of real processes: killed, cut off from each other, and set upon by strangers."""
