"""Networks: the vision-language backbone, the consistency expert, the critics and the residual actor."""
