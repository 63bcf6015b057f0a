"""The claims on trial, as introductory articles tell them. Experiments, sections and exercises refer to their ids."""

CLAIMS = {
    "C01": "Features of 0 to 1 beside features of 1 to 1000 slow learning; scaling the inputs speeds it up.",
    "C02": "Normalization (to the range 0 to 1) and standardization (mean 0, standard deviation 1) are different "
    "things, for different cases.",
    "C03": "A network trained on one input distribution fails when it shifts (trained on black cats, tested on colored "
    "ones), although the relation of X to Y is unchanged.",
    "C04": "Batch normalization reduces how much the hidden values shift around (internal covariate shift).",
    "C05": "With batch normalization each layer learns more independently of the others.",
    "C06": "Batch normalization gives ten times or more improvement in training speed.",
    "C07": "Batch normalization allows higher learning rates; networks that could not train start to train.",
    "C08": "Batch normalization reduces the sensitivity to weight initialization.",
    "C09": "Batch normalization stabilizes gradients: they neither vanish nor explode.",
    "C10": "Batch normalization regularizes a little, through the noise of batch statistics.",
    "C11": "With batch normalization use less dropout, but do use the two together.",
    "C12": "Batch normalization subtracts the batch mean and divides by the batch standard deviation (some texts say: "
    "by the variance).",
    "C13": "Gamma and beta let gradient descent undo the normalization by changing two numbers instead of all weights; "
    "the identity stays representable.",
    "C14": "Each neuron (each channel, for convolutions) has its own gamma and beta.",
    "C15": "Batch normalization belongs after the linear part and before the activation.",
    "C16": "Batch normalization takes more computation per epoch but fewer epochs, so less time in total.",
    "C17": "Batch normalization can replace manual normalization of the input data.",
    "C18": "Batch normalization prevents overfitting.",
    "C19": "VGG predates batch normalization; training VGG with it from the start improves ImageNet accuracy.",
    "C20": "Inserting batch normalization into a trained VGG changes its outputs; gamma and beta can be chosen to undo "
    "that.",
    "C21": "Batch normalization works on dense and on convolutional layers.",
    "C22": "Batch normalization in Keras is one line: Dense, BatchNormalization, Activation.",
    "C23": "Batch normalization is preprocessing at every layer.",
    "C24": "A good learning rate can be estimated.",
}
